"""Imports go one way, what a Django worker imports is light, and nothing happens at import."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name

import pytest

from notifier.broker import registry
from tests.support import REPOSITORY

LAYERS = [
    {"__main__"},
    {"cli"},
    {"app"},
    {"api"},
    {"auth"},
    {"hub", "stalled"},
    {"opener", "rounds", "slow", "timers"},
    {"stream"},
    {"frames"},
    {"metrics", "limits"},
    {"broker"},
    {"task", "message"},
    {"event"},
    {"rules"},
    {"server", "settings"},
    {"errors"},
]
"""Modules (or packages) of `notifier` from top to bottom: each imports only what stands below it."""

BRIDGE_MAY_IMPORT = {
    "notifier.event",
    "notifier.message",
    "notifier.rules",
    "notifier.task",
    "notifier.errors",
    "notifier.broker",
    "notifier.broker.redis.keys",
    "notifier.broker.redis.scripts",
}
HEAVY = ["fastapi", "starlette", "uvicorn", "pydantic", "pydantic_settings", "sse_starlette"]
"""What a Django worker must not carry."""


def sources(package: str) -> list[Path]:
    found = sorted(path for path in (REPOSITORY / package).rglob("*.py") if "migrations" not in path.parts)
    assert found
    return found


def module_of(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, also inside functions; `from a import b` is `a.b` where that is a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}:{node.lineno} imports by dots"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if is_module(name) else str(node.module)


def is_module(name: str) -> bool:
    path = REPOSITORY.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def layer_of(module: str) -> int:
    name = module.split(".")[1]
    return next(depth for depth, names in enumerate(LAYERS) if name in names)


SERVICE = [path for path in sources("notifier") if module_of(path) != "notifier"]


@pytest.mark.parametrize("path", SERVICE, ids=module_of)
def test_a_module_imports_only_from_the_layers_below_it(path: Path) -> None:
    module = module_of(path)
    depth = layer_of(module)
    for imported in imports(path):
        if not imported.startswith("notifier.") or imported.split(".")[1] == module.split(".")[1]:
            continue
        assert layer_of(imported) > depth, f"{module} imports {imported}"


BACKENDS = sorted(path.parent.name for path in (REPOSITORY / "notifier" / "broker").glob("*/__init__.py"))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_broker_imports_no_other_broker(backend: str) -> None:
    others = tuple(f"notifier.broker.{name}" for name in [*BACKENDS, "registry"] if name != backend)
    for path in sources(f"notifier/broker/{backend}"):
        assert not [name for name in imports(path) if name.startswith(others)], module_of(path)


def test_the_registry_opens_every_broker() -> None:
    opened = {resolve_name(backend).__module__ for backend in registry.BACKENDS.values()}
    assert opened == {f"notifier.broker.{name}.broker" for name in BACKENDS}


def test_the_package_itself_imports_nothing() -> None:
    assert set(imports(REPOSITORY / "notifier" / "__init__.py")) <= {"__future__"}


@pytest.mark.parametrize("path", sources("django_bridge"), ids=module_of)
def test_the_bridge_imports_only_what_the_base_install_has(path: Path) -> None:
    for imported in imports(path):
        top = imported.split(".")[0]
        if top == "notifier":
            assert imported in BRIDGE_MAY_IMPORT, f"{module_of(path)} imports {imported}"
        assert top not in HEAVY, f"{module_of(path)} imports {imported}"


def test_the_service_imports_nothing_of_the_bridge() -> None:
    for path in sources("notifier"):
        assert not [name for name in imports(path) if name.split(".")[0] in ("django", "django_bridge", "celery")]


def loaded_after(*modules: str) -> set[str]:
    """Top-level names of all modules that a new interpreter has loaded after importing these."""
    code = f"import importlib, json, sys\nfor name in {modules!r}: importlib.import_module(name)\n"
    code += "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


BRIDGE_IMPORTS = sorted(
    name for path in sources("django_bridge") for name in imports(path) if name.startswith("notifier")
)


@pytest.mark.parametrize(
    "modules",
    [("notifier",), ("notifier.broker.redis.scripts",), tuple(dict.fromkeys(BRIDGE_IMPORTS))],
    ids=lambda one: one[0],
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
