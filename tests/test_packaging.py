"""Wheel and sdist contain everything, the base install stays light, the installed service runs from any folder."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tarfile
import venv
import zipfile
from importlib import metadata
from pathlib import Path

import httpx
import pytest
from packaging.utils import canonicalize_name

from tests.requirements import closure
from tests.support import API_KEY, JWT_SECRET, REPOSITORY, Process, free_port

pytestmark = pytest.mark.slow

CLIENT_FILES = {
    path.relative_to(REPOSITORY / "client").as_posix()
    for path in (REPOSITORY / "client").rglob("*")
    if path.is_file() and path.name != "tsconfig.json"
}
MAX_RESIDENT_MIB = 72
MAX_START_CPU_S = 8.0
"""So much only with a mistake, such as work at import: `bench` shows how fast it is."""


@pytest.fixture(scope="module")
def dists(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An sdist built from the tree, and a wheel built from that sdist."""
    out = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(REPOSITORY)],
        check=True,
        capture_output=True,
        timeout=100,
    )
    return out


@pytest.fixture(scope="module")
def wheel(dists: Path) -> Path:
    return next(dists.glob("*.whl"))


def _wheel_files(path: Path) -> dict[str, int]:
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist()}


def _check_contents(names: set[str]) -> None:
    in_repository = {
        path.relative_to(REPOSITORY).as_posix()
        for package in ("notifier", "django_bridge")
        for path in (REPOSITORY / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.name != "tsconfig.json"
    }
    # rglob does not enter links: these are the packages' own files, whatever their kind.
    own = {name for name in in_repository if not name.startswith(("notifier/client/", "django_bridge/static/"))}
    assert own - names == set()
    assert {f"notifier/client/{name}" for name in CLIENT_FILES} - names == set()
    to_django = {name for name in CLIENT_FILES if not name.startswith(("demo/", "console/"))}
    assert {f"django_bridge/static/notifier/{name}" for name in to_django} - names == set()
    assert {"notifier/py.typed", "django_bridge/py.typed", "django_bridge/migrations/0001_initial.py"} <= names
    assert {
        "notifier/broker/redis/lua/publish.lua",
        "notifier/client/notifier.js",
        "notifier/client/demo/index.html",
    } <= names


def test_the_wheel_holds_every_file_of_both_packages_and_the_client_twice(wheel: Path) -> None:
    _check_contents(set(_wheel_files(wheel)))


def test_the_wheel_holds_nothing_else(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in _wheel_files(wheel)}
    assert tops == {"notifier", "django_bridge", "sse_notifier-0.1.0.dist-info"}


def test_the_sdist_holds_the_same(dists: Path) -> None:
    with tarfile.open(next(dists.glob("*.tar.gz"))) as archive:
        links = [entry.name for entry in archive if entry.issym() or entry.islnk()]
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert links == []
    _check_contents(names)


def test_tree_and_sdist_build_the_same_wheel(wheel: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(tmp_path)]
    subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, timeout=100)
    assert _wheel_files(next(tmp_path.glob("*.whl"))) == _wheel_files(wheel)


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new venv with the wheel. It uses the dependencies of this venv: nothing is downloaded."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    subprocess.run(
        [sys.executable, "-m", "pip", "--quiet", "install", "--no-deps", "--no-index", "--target", site, str(wheel)],
        check=True,
        timeout=60,
    )
    # A line in a .pth file only extends the path: the repository's own .pth, which lies there, is not read.
    borrowed = next(path for path in sys.path if path.endswith("site-packages"))
    (Path(site) / "borrowed.pth").write_text(borrowed + "\n")
    return python


def test_the_installed_package_is_not_the_repository(installed: Path, tmp_path: Path) -> None:
    code = "import notifier, django_bridge; print(notifier.__file__, django_bridge.__file__)"
    output = subprocess.run([installed, "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path).stdout
    assert str(REPOSITORY) not in output.replace(str(installed.parent), "")
    assert output.count("site-packages") == 2


def test_a_django_worker_needs_nothing_of_the_service_and_no_celery(installed: Path, tmp_path: Path) -> None:
    code = """
import sys
extras = {"celery", "click", "fastapi", "hiredis", "httptools", "pydantic", "sse_starlette", "starlette", "uvicorn"}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in extras:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "django_bridge"],
    NOTIFIER={"TRANSPORT": "memory", "JWT_SECRET": "x" * 32}, USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
)
django.setup()
from django_bridge import ALL, Message, Progress, Task, group, progress
import django_bridge.publisher.http, django_bridge.publisher.redis, django_bridge.tokens
Message(to_users=ALL, subject="Test").payload()
"""
    subprocess.run([installed, "-W", "error", "-c", code], check=True, cwd=tmp_path, timeout=60)


def test_the_base_requires_only_what_publishing_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        description = archive.read("sse_notifier-0.1.0.dist-info/METADATA").decode()
    base = {
        re.split(r"[^A-Za-z0-9-]", line.partition(": ")[2])[0]
        for line in description.splitlines()
        if line.startswith("Requires-Dist:") and "extra ==" not in line
    }
    assert base == {"httpx", "pyjwt", "redis"}


class _Start:
    """One start of `notifier serve --dev` in an empty folder, until its first answer."""

    def __init__(self, python: Path, folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        command = [str(python), "-m", "notifier", "serve", "--dev", "--port", self.url.rpartition(":")[2]]
        self.process = Process(
            command,
            cwd=folder,
            env={"NOTIFIER_REDIS_URL": "", "NOTIFIER_JWT_SECRET": JWT_SECRET, "NOTIFIER_API_KEYS": API_KEY},
        )
        self.process.wait_until(self._answers, "the service")

    def _answers(self) -> bool:
        if "Application startup complete" not in self.process.output():
            return False
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.url}/readyz", timeout=1).status_code == 200
        return False

    def cpu_s(self) -> float:
        """CPU seconds until now: other than the time, they are those of the program alone."""
        fields = Path(f"/proc/{self.process.child.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def resident_mib(self) -> float:
        status = Path(f"/proc/{self.process.child.pid}/status").read_text()
        match = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert match
        return int(match[1]) / 1024


def test_the_installed_service_serves_page_and_client_from_any_folder(installed: Path, tmp_path: Path) -> None:
    start = _Start(installed, tmp_path)
    try:
        with httpx.Client(base_url=start.url) as client:
            page = client.get("/demo")
            assert page.status_code == 200
            assert "<title>notifier demo</title>" in page.text
            for path in re.findall(r'(?:src|href)="(client/[^"]+)"', page.text):
                assert client.get(f"/{path}").status_code == 200, path
            module = client.get("/client/notifier.js")
            assert module.status_code == 200
            assert module.headers["content-type"].startswith("text/javascript")
            assert "export function connect" in module.text
    finally:
        # Drained, and then ended by the signal, as supervisors expect it.
        assert start.process.stop() == -signal.SIGTERM
    assert os.listdir(tmp_path) == []


def test_an_idle_service_is_small_and_starts_at_once(installed: Path, tmp_path: Path) -> None:
    start = _Start(installed, tmp_path)
    try:
        cpu_s, resident_mib = start.cpu_s(), start.resident_mib()
    finally:
        start.process.stop()
    print(f"ready after {cpu_s:.2f} s of CPU, {resident_mib:.1f} MiB resident")
    assert cpu_s < MAX_START_CPU_S
    assert resident_mib < MAX_RESIDENT_MIB


def test_the_extra_celery_brings_all_that_a_redis_queue_needs(tmp_path: Path) -> None:
    required = closure("sse-notifier", frozenset(["celery"]))
    owners = metadata.packages_distributions()
    absent = [module for module, names in owners.items() if not required & {canonicalize_name(name) for name in names}]
    code = f"""
import sys
absent = {absent!r}
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
from celery import Celery
app = Celery(broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
print(type(app.connection().transport).__module__, type(app.backend).__module__)
"""
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert loaded.returncode == 0, loaded.stderr
    assert loaded.stdout.split() == ["kombu.transport.redis", "celery.backends.redis"]
