"""What the image is made of: the pinned base, the list of its packages, whether one is known to be vulnerable.

No registry and no vulnerability service is reached: both are servers on 127.0.0.1 that speak their protocols.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import cyclonedx.schema
import jsonschema_rs
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.requirements import closure
from tests.support import REPOSITORY, free_port
from tools import base_image, sbom

DIGEST = "sha256:" + "5f" * 32
INDEX = "application/vnd.oci.image.index.v1+json"


class Server(ThreadingHTTPServer):
    """A server on a port of its own. `answers`: from method and path to status, headers and body."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: dict[tuple[str, str], tuple[int, dict[str, str], bytes]] = {}
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((f"{self.command} {self.path}", dict(self.headers), body))
        status, headers, answer = self.server.reply(self.command, self.path, dict(self.headers), body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)

    do_GET = do_HEAD = do_POST = _answer

    def log_message(self, *_: Any) -> None:
        pass


class Registry(Server):
    """The pull side of a registry with tokens. `kind` and `digest` are those of python:3.11."""

    kind = INDEX
    digest = DIGEST

    def reply(self, method: str, path: str, headers: dict[str, str], _: bytes) -> tuple[int, dict[str, str], bytes]:
        url = urlsplit(path)
        if url.path == "/token":
            query = parse_qs(url.query)
            right = query == {"service": ["registry"], "scope": ["repository:library/python:pull"]}
            return (200, {}, b'{"token": "pull-token"}') if right else (400, {}, b"")
        if headers.get("Authorization") != "Bearer pull-token":
            challenge = f'realm="http://{self.host}/token",service="registry",scope="repository:library/python:pull"'
            return 401, {"WWW-Authenticate": f"Bearer {challenge}"}, b""
        if (method, path) != ("HEAD", "/v2/library/python/manifests/3.11") or INDEX not in headers["Accept"]:
            return 404, {}, b""
        return 200, {"Content-Type": self.kind, "Docker-Content-Digest": self.digest}, b""


class Osv(Server):
    """OSV's query: h11 is vulnerable, whatever its version."""

    def reply(self, method: str, path: str, _: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        if (method, path) != ("POST", "/v1/query"):
            return 404, {}, b""
        package = json.loads(body)["package"]
        assert package["ecosystem"] == "PyPI"
        if package["name"] != "h11":
            return 200, {}, b"{}"
        ranges = [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "99.0"}]}]
        affected = [{"package": package, "ranges": ranges}]
        vulnerability = {"id": "PYSEC-0000-1", "aliases": ["CVE-0000-1"], "summary": "Smuggles", "affected": affected}
        return 200, {}, json.dumps({"vulns": [vulnerability]}).encode()


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as server:
        yield server
        server.shutdown()


@pytest.fixture
def osv() -> Iterator[Osv]:
    with Osv() as server:
        yield server
        server.shutdown()


@pytest.fixture
def dockerfiles(registry: Registry, tmp_path: Path) -> list[Path]:
    """The Dockerfiles, with a base image of the registry."""
    copies = []
    for name in ("Dockerfile", "examples/django_project/Dockerfile"):
        text = (REPOSITORY / name).read_text("utf-8")
        changed = re.sub(r"^ARG BASE=.*$", f"ARG BASE={registry.host}/library/python:3.11", text, flags=re.MULTILINE)
        assert changed != text
        copies.append(tmp_path / name.replace("/", "-"))
        copies[-1].write_text(changed, "utf-8")
    return copies


def pinned(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.base_image", *map(str, paths)]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)


# The base


def test_a_base_is_pinned_to_what_the_registry_has_and_again_later(registry: Registry, dockerfiles: list[Path]) -> None:
    before = dockerfiles[0].read_text("utf-8")
    done = pinned(*dockerfiles)
    assert (done.returncode, done.stderr) == (0, "")
    line = f"ARG BASE={registry.host}/library/python:3.11@{DIGEST}"
    assert done.stdout == f"{line.partition('=')[2]}\n"
    for path in dockerfiles:
        assert path.read_text("utf-8").splitlines().count(line) == 1
    assert dockerfiles[0].read_text("utf-8").replace(f"@{DIGEST}", "") == before

    registry.digest = "sha256:" + "a1" * 32
    assert base_image.pin(dockerfiles) == [line.partition("=")[2].replace(DIGEST, registry.digest)]
    assert DIGEST not in dockerfiles[1].read_text("utf-8")


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("kind", "application/vnd.oci.image.manifest.v1+json", "the manifest of one platform"),
        ("digest", "sha256:short", "no SHA-256 digest: 'sha256:short'"),
    ],
)
def test_an_answer_that_would_not_pin_changes_nothing(
    registry: Registry, dockerfiles: list[Path], attribute: str, value: str, reason: str
) -> None:
    before = [path.read_text("utf-8") for path in dockerfiles]
    setattr(registry, attribute, value)
    with pytest.raises(base_image.PinError, match=reason):
        base_image.pin(dockerfiles)
    assert [path.read_text("utf-8") for path in dockerfiles] == before


def test_a_tag_or_a_registry_that_is_not_there_is_named_in_one_line(registry: Registry, tmp_path: Path) -> None:
    absent = f"127.0.0.1:{free_port()}"
    for name, reason in (
        (f"{registry.host}/library/python:0.1", f"{registry.host} answers 404"),
        (f"{absent}/python:3.11", f"{absent} does not answer: [Errno 111] Connection refused"),
    ):
        path = tmp_path / "Dockerfile"
        path.write_text(f"ARG BASE={name}\nFROM ${{BASE}}\n")
        done = pinned(path)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"not pinned: {name}: {reason}\n")


def test_names_of_images_are_read_as_docker_reads_them() -> None:
    hub = "https://registry-1.docker.io/v2"
    for name, address in {
        "python:3.11-slim-bookworm": f"{hub}/library/python/manifests/3.11-slim-bookworm",
        "library/python": f"{hub}/library/python/manifests/latest",
        "registry.example.org:5000/a/b:1": "https://registry.example.org:5000/v2/a/b/manifests/1",
        "localhost/a:1": "http://localhost/v2/a/manifests/1",
    }.items():
        assert base_image.parse(name).address == address


def test_make_pin_pins_every_base_and_the_workflow_builds_from_the_digest() -> None:
    recipes = (REPOSITORY / "Makefile").read_text("utf-8")
    assert "tools.base_image Dockerfile examples/django_project/Dockerfile" in recipes
    workflow = yaml.safe_load((REPOSITORY / ".github" / "workflows" / "image.yml").read_text("utf-8"))
    steps = [step["run"] for step in workflow["jobs"]["image"]["steps"] if "run" in step]
    assert steps == ["make pin", "make sbom", "make audit", "make image-archive"]
    archive = recipes.partition("\nimage-archive:")[2].partition("\n\n")[0]
    for option in ("--provenance=mode=max", "--sbom=true", "type=oci,dest=build/notifier.tar"):
        assert option in archive


# Its packages


def test_make_installs_what_the_dockerfile_installs() -> None:
    (run,) = re.findall(r"^RUN (python -m venv .*)$", (REPOSITORY / "Dockerfile").read_text("utf-8"), re.MULTILINE)
    recipe = (REPOSITORY / "Makefile").read_text("utf-8").partition("\nbuild/sbom.json:")[2].partition("\n\n")[0]
    for name, value in (("$(PYTHON)", "python"), ("$(RELEASE)/bin/python", "python"), ("$(IMAGE)", "/opt/notifier")):
        recipe = recipe.replace(name, value)
    lines = [
        line.strip().replace("--quiet ", "") for line in recipe.splitlines() if "-m venv" in line or "-m pip" in line
    ]
    assert " && ".join(lines) == run


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv that has the image's packages as far as their metadata goes, in the versions of this venv."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home, with_pip=False)
    (folder,) = home.glob("lib/python*/site-packages")
    for name in closure("sse-notifier", frozenset(["server"])):
        path = Path(str(metadata.distribution(name)._path))  # type: ignore[attr-defined]  # no public name
        shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("direct_url.json", "licenses"))
    return home / "bin" / "python"


@pytest.mark.slow
def test_the_bill_of_materials_has_what_is_installed_and_nothing_of_this_machine(
    environment: Path, tmp_path: Path
) -> None:
    target = tmp_path / "build" / "sbom.json"
    # Its own validation takes ten seconds: the same schema is read in Rust below.
    assert sbom.write(environment, target, "--no-validate") > 10
    text = target.read_text("utf-8")
    document = json.loads(text)

    schemas = Path(cyclonedx.schema.__file__).parent / "_res"
    known = {
        f"http://cyclonedx.org/schema/{path.name}": json.loads(path.read_text("utf-8"))
        for path in schemas.glob("*.json")
    }
    schema = known["http://cyclonedx.org/schema/bom-1.6.SNAPSHOT.schema.json"]
    validator = jsonschema_rs.Draft7Validator(schema, registry=jsonschema_rs.Registry(list(known.items())))
    validator.validate(document)
    with pytest.raises(jsonschema_rs.ValidationError):
        validator.validate({**document, "components": [{"name": "without a type"}]})

    components = {canonicalize_name(each["name"]): each for each in document["components"]}
    assert {*components, "sse-notifier"} == closure("sse-notifier", frozenset(["server"]))
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    for line in [*project["dependencies"], *project["optional-dependencies"]["server"]]:
        name = canonicalize_name(Requirement(line).name)
        version = metadata.version(name)
        assert components[name]["version"] == version
        assert components[name]["purl"] == f"pkg:pypi/{name}@{version}"
    assert document["metadata"]["component"]["version"] == project["version"]
    assert not {"pytest", "django", "pip"} & set(components)
    for place in (str(REPOSITORY), str(environment.parent.parent), "file:", "/simple"):
        assert place not in text
    assert "timestamp" not in document["metadata"]


def audited(python: Path, address: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tools.audit", str(python), "--osv-url", address]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=100)


@pytest.mark.slow
def test_the_audit_asks_about_every_package_and_fails_for_a_vulnerable_one(environment: Path, osv: Osv) -> None:
    done = audited(environment, f"http://{osv.host}/v1/query")
    packages = closure("sse-notifier", frozenset(["server"]))
    version = metadata.version("h11")
    assert done.stdout == (
        f"h11 {version}: PYSEC-0000-1, CVE-0000-1; fixed in 99.0\n{len(packages)} packages, 1 known vulnerability\n"
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert {json.loads(body)["package"]["name"] for _, _, body in osv.requests} == packages


@pytest.mark.slow
def test_an_audit_that_could_not_ask_says_so_in_one_line_and_fails(environment: Path) -> None:
    done = audited(environment, f"http://127.0.0.1:{free_port()}/v1/query")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"not audited: .+ Connection refused.*\n", done.stderr), done.stderr
