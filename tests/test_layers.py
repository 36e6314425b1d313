"""Imports go one way, what a Django worker imports is light, and nothing happens at import."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from pkgutil import resolve_name

import pytest

from notifier.broker import registry
from tests.source_tree import circles, client_graph, imports, mapped_files, module_of, python_graph, python_sources
from tests.support import REPOSITORY

Layers = Sequence[Collection[str]]

SERVICE_LAYERS: Layers = [
    {"__main__"},
    {"cli"},
    {"load.report"},
    {"load.measure"},
    {"load.publisher", "load.streams"},
    {"load.connection", "load.tally"},
    {"load.plan"},
    {"load"},
    {"doctor.report"},
    {"doctor"},
    {"doctor.address", "doctor.stream"},
    {"doctor.clock"},
    {"doctor.public"},
    {"doctor.fixes"},
    {"why"},
    {"credentials"},
    {"run"},
    {"address"},
    {"supervisor"},
    {"app", "server", "check", "logs"},
    {"samples"},
    {"api.direct_calls"},
    {"api.console"},
    {
        "api.afterwards",
        "api.demo",
        "api.errors",
        "api.inbox",
        "api.batch",
        "api.corrections",
        "api.hooks",
        "api.operation",
        "api.output",
        "api.pages",
        "api.poll",
        "api.presence",
        "api.question",
        "api.stream",
        "api.topics",
        "api.fast_path",
    },
    {"api.origins"},
    {"api.publish"},
    {"api.publishing"},
    {"api.access"},
    {"api.granted"},
    {"api.openapi"},
    {"api.openapi_30", "api.stream_call"},
    {"api.schemas"},
    {"api.stream_events"},
    {"api.answers"},
    {"api.bodies", "api.http"},
    {"api"},
    {"protocol"},
    {"hub", "stalled", "tracing"},
    {"spans"},
    {"delivery"},
    {"control"},
    {"connection_records"},
    {"unwritten"},
    {"grants"},
    {"presence"},
    {
        "connections",
        "last_seen",
        "opener",
        "pending",
        "queued",
        "replay",
        "retractions",
        "rounds",
        "slow",
        "timers",
        "transport",
        "workers",
    },
    {"trace", "stream"},
    {"frames", "polls"},
    {"records"},
    {"direct"},
    {"admission", "metrics", "limits", "repeats", "http1", "event_loop", "garbage", "failures", "loop_lag"},
    {"process_numbers"},
    {"broker.registry"},
    {"broker.memory.broker", "broker.redis.broker", "broker.sqlite.broker"},
    {
        "broker.redis.afterwards",
        "broker.redis.corrections",
        "broker.redis.inbox",
        "broker.redis.openings",
        "broker.redis.people",
        "broker.redis.publishes",
        "broker.redis.tasks",
    },
    {"broker.redis.outputs"},
    {"broker.redis.shards"},
    {"broker.redis.subscriptions"},
    {"broker.redis.message_rows"},
    {"broker.redis.announcements"},
    {"broker.redis.commands"},
    {"broker.redis.primary"},
    {"broker.redis.layout"},
    {"broker.redis.confirmations", "broker.redis.places"},
    {"broker.redis.identity"},
    {"broker.redis.connection"},
    {"broker.redis.correction_calls", "broker.redis.message_calls", "broker.redis.output_calls"},
    {"broker.redis.addresses", "broker.redis.client_info", "broker.redis.scripts"},
    {"broker.redis.keys", "broker.redis.notes"},
    {"broker.sqlite.writer"},
    {"broker.sqlite.file", "broker.sqlite.journal"},
    {"broker.sqlite.lock", "broker.sqlite.rows"},
    {"broker.sqlite"},
    {"broker.embedded.broker"},
    {"broker.embedded.afterwards", "broker.embedded.inbox", "broker.embedded.missed"},
    {"broker.embedded.history", "broker.embedded.idempotency", "broker.embedded.marks", "broker.embedded.tasks"},
    {"broker.embedded.outputs", "broker.embedded.people", "broker.embedded.sweep"},
    {"broker.embedded.journal"},
    {"broker.embedded.log"},
    {"broker.embedded"},
    {"broker.inbox"},
    {"broker"},
    {"broker.afterwards"},
    {"broker.values"},
    {"asking"},
    {"task_record"},
    {"task", "message", "output", "hooks.alerts", "hooks.ntfy", "hooks"},
    {"question"},
    {"event", "parsing", "problems", "programs"},
    {"call"},
    {"auth", "jwks"},
    {"keys"},
    {"exclusion", "people"},
    {"json_text"},
    {"settings"},
    {"hook"},
    {"api_key", "jwt_secret"},
    {"rules"},
    {"errors", "histogram", "portions", "sampling", "trace_context"},
]
"""Modules of `notifier` from top to bottom, a package standing for those of its modules that have no entry: each
imports only from the layers below its own, or within its entry."""

BRIDGE_LAYERS: Layers = [
    # What Django, pytest and the command line load by name.
    {"apps", "admin", "compat", "context_processors", "log", "management", "panel", "templatetags", "urls"},
    {"presence_admin"},
    {"checks"},
    {"middleware", "tasks_backend"},
    {"board"},
    {"admin_action", "job_page"},
    {"thread_runs"},
    {"message", "views"},
    {"corrections"},
    {"live_signals"},
    {"live"},
    {"celery", "event"},
    {"queues.celery", "queues.dramatiq", "queues.huey", "queues.rq"},
    {"queues.job"},
    {"task.decorator"},
    {"task.task"},
    {"task.share", "task.reconcile"},
    {"task.reporter"},
    {"task.kept_end"},
    {"task.asking"},
    {"task.answers"},
    {"task.pending"},
    {"task.heartbeat", "task.records", "task.unreported"},
    {"task.output"},
    {"task.unsent_output"},
    {"task"},
    {"loop.progress", "tqdm"},
    {"loop.asynchronous"},
    {"loop"},
    {"escalation", "sending"},
    {"cursors", "outbox", "history"},
    {"delivery"},
    {"publisher"},
    {"publisher.http", "publisher.memory", "publisher.redis", "publisher.retry", "publisher.failures"},
    {"publisher.redis_reading"},
    {"publisher.redis_confirmations", "publisher.redis_places"},
    {"publisher.redis_connection", "publisher.transport"},
    {"testing"},
    {"page", "languages", "static_files"},
    {"grants", "tokens", "service"},
    {"queues"},
    {"recipients"},
    {"texts"},
    {"background", "commit", "conf", "event_loop", "models", "payload", "policy", "primary_keys", "signals", "tracing"},
    {"conf_rules"},
]
"""The same for `django_bridge`."""

CLIENT_LAYERS: Layers = [
    {"bundle", "console", "demo", "django", "react", "svelte", "vue"},
    {"live", "pages"},
    {"widgets", "empty", "frameworks"},
    {"store"},
    {"messages"},
    {"notifier"},
    {"tabs", "api", "topics"},
    {"renewal", "handle", "topic_polls", "topic_refusals", "topic_tabs"},
    {"grants", "people", "topic_calls"},
    {"follower"},
    {"connection"},
    {"attempts"},
    {"fallback", "poll"},
    {"transport", "position", "watchdog", "answers"},
    {"request", "parse", "page", "pause", "swapped"},
    {"token"},
    {"i18n"},
    {"types"},
]
"""The same for `client/`, folders as dots."""

BRIDGE_MAY_IMPORT = {
    "notifier.api_key",
    "notifier.event",
    "notifier.exclusion",
    "notifier.message",
    "notifier.asking",
    "notifier.jwt_secret",
    "notifier.output",
    "notifier.programs",
    "notifier.question",
    "notifier.json_text",
    "notifier.sampling",
    "notifier.trace_context",
    "notifier.rules",
    "notifier.task",
    "notifier.task_record",
    "notifier.errors",
    "notifier.broker",
    "notifier.broker.values",
    "notifier.broker.redis.addresses",
    "notifier.broker.redis.client_info",
    "notifier.broker.redis.keys",
    "notifier.broker.redis.correction_calls",
    "notifier.broker.redis.message_calls",
    "notifier.broker.inbox",
    "notifier.broker.redis.output_calls",
    "notifier.broker.redis.scripts",
}
HEAVY = ["fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "sse_starlette"]
"""What a Django worker must not carry."""


SERVICE = [path for path in python_sources("notifier") if module_of(path) != "notifier"]


def home_of(name: str, layers: Layers, prefix: str) -> tuple[int, str] | None:
    """The layer of a module, and the entry that puts it there: the longest entry that it is, or lies in."""
    entries = [(depth, entry) for depth, names in enumerate(layers) for entry in names]
    homes = [(depth, entry) for depth, entry in entries if f"{name}.".startswith(f"{prefix}{entry}.")]
    return max(homes, key=lambda home: len(home[1]), default=None)


def upward_imports(graph: Mapping[str, set[str]], layers: Layers, prefix: str) -> Iterator[str]:
    """The imports that do not lead downward, and the modules that have no layer."""
    for module, targets in graph.items():
        home = home_of(module, layers, prefix)
        if home is None:
            yield f"{module} has no layer"
            continue
        for target in targets:
            target_home = home_of(target, layers, prefix)
            if target_home is not None and target_home != home and target_home[0] <= home[0]:
                yield f"{module} imports {target}"


@pytest.mark.parametrize("package", ["notifier", "django_bridge"])
def test_python_imports_lead_to_the_layers_below(package: str) -> None:
    layers = {"notifier": SERVICE_LAYERS, "django_bridge": BRIDGE_LAYERS}[package]
    graph = {module: targets for module, targets in python_graph(package).items() if module != package}
    assert list(upward_imports(graph, layers, f"{package}.")) == []


def dotted(name: str) -> str:
    return name.removesuffix(".js").replace("/", ".")


def test_the_clients_imports_lead_to_the_layers_below() -> None:
    graph = {dotted(name): set(map(dotted, targets)) for name, targets in client_graph().items()}
    assert list(upward_imports(graph, CLIENT_LAYERS, "")) == []


@pytest.mark.parametrize("package", ["notifier", "django_bridge", "client"])
def test_no_module_reaches_itself(package: str) -> None:
    """No circle, neither by imports inside functions nor by those for types only."""
    graph = client_graph() if package == "client" else python_graph(package)
    # The package itself only names where its public names live; its modules do not import it, but for the commands.
    assert circles({module: targets for module, targets in graph.items() if module != "django_bridge"}) == []


def test_only_what_stands_at_the_top_imports_the_bridges_public_names() -> None:
    users = {module for module, targets in python_graph("django_bridge").items() if "django_bridge" in targets}
    homes = {home_of(module, BRIDGE_LAYERS, "django_bridge.") for module in users}
    assert {home[0] for home in homes if home is not None} <= {0}


def test_the_map_in_the_docs_has_a_line_for_each_file_and_a_file_for_each_line() -> None:
    mapped = mapped_files((REPOSITORY / "docs" / "architecture.md").read_text("utf-8"))
    folders = {name for name in mapped if name.endswith("/")}
    assert {Path(name).name for name in folders} == {
        "migrations",
        "locale",
        "i18n",
        "icons",
        "themes",
        "jsx",
        "demo",
        "console",
        "schemas",
    }, "folders without their files"
    patterns = ("*.py", "*.lua", "*.js")
    files = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("notifier", "django_bridge", "client")
        for pattern in patterns
        for path in (REPOSITORY / package).rglob(pattern)
        # Links to client/ are its files again; an empty `__init__.py` says nothing.
        if not path.is_relative_to(REPOSITORY / "notifier" / "client") and path.stat().st_size > 0
    }
    missing = {name for name in files if name not in mapped and not name.startswith(tuple(folders))}
    assert sorted(missing) == [], "files without a line in docs/architecture.md"
    gone = {name for name in mapped if not (REPOSITORY / name).exists()}
    assert sorted(gone) == [], "lines of docs/architecture.md without a file"


SHARED = {"embedded"}
"""Below `notifier/broker/`, what is no backend but shared by some."""
BACKENDS = sorted({path.parent.name for path in (REPOSITORY / "notifier" / "broker").glob("*/__init__.py")} - SHARED)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broker_imports_no_other_broker(backend: str) -> None:
    others = tuple(f"notifier.broker.{name}" for name in [*BACKENDS, "registry"] if name != backend)
    for path in python_sources(f"notifier/broker/{backend}"):
        assert not [name for name in imports(path) if name.startswith(others)], module_of(path)


def test_the_registry_opens_every_broker() -> None:
    opened = {resolve_name(backend).__module__ for backend in registry.BACKENDS.values()}
    assert opened == {f"notifier.broker.{name}.broker" for name in BACKENDS}


def test_the_package_itself_imports_nothing() -> None:
    assert set(imports(REPOSITORY / "notifier" / "__init__.py")) <= {"__future__"}


@pytest.mark.parametrize("path", python_sources("django_bridge"), ids=module_of)
def test_the_bridge_imports_only_what_the_base_install_has(path: Path) -> None:
    for imported in imports(path):
        top = imported.split(".")[0]
        if top == "notifier":
            assert imported in BRIDGE_MAY_IMPORT, f"{module_of(path)} imports {imported}"
        assert top not in HEAVY, f"{module_of(path)} imports {imported}"


def test_the_service_imports_nothing_of_the_bridge() -> None:
    for path in python_sources("notifier"):
        assert not [name for name in imports(path) if name.split(".")[0] in ("django", "django_bridge", "celery")]


@functools.cache
def loaded_after(*modules: str) -> set[str]:
    """Top-level names of all modules that a new interpreter has loaded after importing these."""
    code = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


BRIDGE_IMPORTS = sorted(
    name for path in python_sources("django_bridge") for name in imports(path) if name.startswith("notifier")
)


@pytest.mark.parametrize(
    "modules",
    [("notifier",), ("notifier.broker.redis.scripts",), tuple(dict.fromkeys(BRIDGE_IMPORTS))],
    ids=lambda modules: modules[0],
)
def test_what_the_bridge_takes_from_the_service_loads_nothing_but_the_standard_library(
    modules: tuple[str, ...],
) -> None:
    foreign = loaded_after(*modules) - loaded_after() - set(sys.stdlib_module_names)
    assert foreign == {"notifier"}


def test_the_bridge_itself_loads_nothing_of_the_service_that_a_worker_need_not_carry() -> None:
    code = """
import django, importlib, json, pkgutil, sys
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bridge"],
    DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
)
django.setup()
import django_bridge
for found in pkgutil.walk_packages(django_bridge.__path__, "django_bridge."):
    if found.name.split(".")[1] not in ("admin", "celery", "testing"):
        importlib.import_module(found.name)
print(json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    loaded = set(json.loads(done.stdout))
    assert {"django", "django_bridge", "notifier"} <= loaded
    assert loaded.isdisjoint(HEAVY)


# Nothing happens at import


@pytest.mark.parametrize("path", SERVICE, ids=module_of)
def test_a_module_only_defines(path: Path) -> None:
    """Imports, names, classes and functions; a docstring may follow each. `__main__` is the command."""
    if path.name == "__main__.py":
        return
    for node in ast.parse(path.read_text("utf-8")).body:
        if isinstance(node, ast.Expr):
            only_text = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
            assert only_text, f"{path.name}:{node.lineno} does something at import"
        elif isinstance(node, ast.If):
            assert ast.unparse(node.test) == "TYPE_CHECKING", f"{path.name}:{node.lineno} decides at import"
        else:
            assert isinstance(
                node,
                ast.Import | ast.ImportFrom | ast.Assign | ast.AnnAssign | ast.FunctionDef | ast.AsyncFunctionDef
                | ast.ClassDef,
            ), f"{path.name}:{node.lineno}"  # fmt: skip


def test_importing_the_service_opens_starts_and_reads_nothing() -> None:
    names = [module_of(path) for path in SERVICE if path.name != "__main__.py"]
    code = f"""
import importlib, os, sys, threading
WATCHED = ("socket.bind", "socket.connect", "socket.getaddrinfo", "subprocess.Popen", "os.fork", "os.posix_spawn")
def watch(event, args):
    if event in WATCHED or (event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")):
        print(event, args, file=sys.stderr)
        os._exit(1)
sys.addaudithook(watch)
for name in {names!r}:
    importlib.import_module(name)
assert threading.active_count() == 1, threading.enumerate()
"""
    bad_settings = {"NOTIFIER_SHARDS": "nonsense", "NOTIFIER_REDIS_URL": "nonsense", "NOTIFIER_API_KEYS": "x"}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code],
        cwd=REPOSITORY,
        env={**os.environ, **bad_settings},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
