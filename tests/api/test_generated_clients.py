"""Clients that generators make of the served OpenAPI document compile, and send messages to a real service."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.api.support import User, calling, unique
from tests.support import API_KEY, REPOSITORY, Service

pytestmark = [pytest.mark.programs, pytest.mark.slow]

MODULES = REPOSITORY / "node_modules"
TYPES = MODULES / "openapi-types" / "node_modules" / "openapi-typescript" / "bin" / "cli.js"
COMPILER = MODULES / "typescript" / "bin" / "tsc"
OPTIONS = {
    "target": "es2022",
    "module": "nodenext",
    "lib": ["es2022", "dom", "dom.iterable"],
    "types": [],
    "strict": True,
    "skipLibCheck": True,
    "outDir": "build",
    "rootDir": ".",
}

FETCH = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

declare const process: { argv: string[] };

const [baseUrl, key, user] = process.argv.slice(2) as [string, string, string];
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${key}` } });
const message: components["schemas"]["MessageIn"] = { to: [`user:${user}`], subject: "Typed" };
const { data, error, response } = await client.POST("/v1/messages", { body: message });
if (!data) throw new Error(`${response.status}: ${error.detail}`);
const refused = await client.POST("/v1/messages", { body: { ...message, subject: "" } });
console.log(JSON.stringify([data.cursor, data.watched, refused.error?.field]));
"""

GENERATED = """
import { Configuration, PublishApi } from "./index.js";

declare const process: { argv: string[] };

const [basePath, key, user] = process.argv.slice(2) as [string, string, string];
const api = new PublishApi(new Configuration({ basePath, accessToken: key }));
const to = [`user:${user}`];
const sent = await api.postMessage({
  messageIn: { to, subject: "Generated", level: "warning", data: { order: 42 }, sentAt: new Date("2026-01-31T12:00Z") },
});
const task = await api.postTask({ taskIn: { to, name: "Import", total: 2 ** 40 } });
const known = await api.patchTask({ taskId: task.id, taskPatch: { state: "Reading", done: 2 ** 33 } });
const unknown = await api.patchTask({ taskId: task.id, taskPatch: { total: "unknown" } });
const { results } = await api.postBatch({
  batchItem: [
    { kind: "message", to, subject: "In a batch" },
    { kind: "patch", id: task.id, status: "succeeded", url: "/report" },
  ],
});
const statuses = results.map((result) => result.status);
console.log(JSON.stringify([sent.cursor, known.total, known.done, known.state, unknown.total, statuses]));
"""

PYTHON = """
import sys

import openapi_client as made

url, key, user = sys.argv[1:]
to = [f"user:{user}"]
with made.ApiClient(made.Configuration(host=url, access_token=key)) as client:
    api = made.PublishApi(client)
    sent = api.post_message(made.MessageIn(to=to, subject="From Python", data={"order": 42}))
    task = api.post_task(made.TaskIn(to=to, name="Import", total=made.Total(2**40)))
    known = api.patch_task(task.id, made.TaskPatch(state="Reading", done=2**33))
    event = made.BatchEvent(kind="event", to=to, type="order.paid", data={"total": 7})
    results = api.post_batch([made.BatchItem(event)]).results
print(sent.watched, known.total, known.done, known.state, known.started_at.tzinfo, results[0].status)
"""


def run(command: list[str], cwd: Path, **env: str) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=100, env={**os.environ, **env})
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def compiled(folder: Path, program: str) -> Path:
    """A program in TypeScript, compiled beside the generated files of a folder."""
    (folder / "node_modules").symlink_to(MODULES)
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "send.ts").write_text(program)
    (folder / "tsconfig.json").write_text(json.dumps({"compilerOptions": OPTIONS, "include": ["**/*.ts"]}))
    run(["node", str(COMPILER), "-p", str(folder)], folder)
    return folder / "build" / "send.js"


@pytest.fixture(scope="module")
def document(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the document in both versions, as the service serves them."""
    folder = tmp_path_factory.mktemp("document")
    with calling(service) as client:
        for name in ("openapi.json", "openapi-3.0.json"):
            (folder / name).write_text(client.get(f"/{name}").raise_for_status().text)
    return folder


@pytest.fixture(scope="module")
def generated(document: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what openapi-generator makes: of version 3.1 in TypeScript, of 3.0 in Python. One start of Java."""
    folder = tmp_path_factory.mktemp("generated")
    leave_out = dict.fromkeys(("apiDocs", "apiTests", "modelDocs", "modelTests"), "false")
    configs = []
    for name, version, options in (
        ("typescript-fetch", "openapi.json", {"importFileExtension": ".js"}),
        ("python", "openapi-3.0.json", {}),
    ):
        config = {
            "generatorName": name,
            "inputSpec": str(document / version),
            "outputDir": str(folder / name),
            "additionalProperties": options,
            "globalProperties": leave_out,
        }
        configs.append(folder / f"{name}.json")
        configs[-1].write_text(json.dumps(config))
    command = [str(Path(sys.executable).with_name("openapi-generator-cli")), "batch", *map(str, configs)]
    # Java starts in half the time without its second compiler.
    run(command, folder, JAVA_TOOL_OPTIONS="-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    return folder


def subjects(user: User) -> list[str]:
    return [message["subject"] for message in user.messages()]


def test_openapi_typescript_makes_types_that_a_client_compiles_with(
    document: Path, service: Service, user_of: Any, tmp_path: Path
) -> None:
    user: User = user_of(service, unique())
    run(["node", str(TYPES), str(document / "openapi.json"), "-o", str(tmp_path / "api.d.ts")], tmp_path)
    program = compiled(tmp_path, FETCH)
    cursor, watched, field = json.loads(run(["node", str(program), service.url, API_KEY, user.name], tmp_path))
    assert (bool(cursor), watched, field) == (True, False, "subject")
    assert subjects(user) == ["Typed"]


def test_openapi_generator_makes_a_client_in_typescript(generated: Path, service: Service, user_of: Any) -> None:
    user: User = user_of(service, unique())
    program = compiled(generated / "typescript-fetch", GENERATED)
    shown = json.loads(run(["node", str(program), service.url, API_KEY, user.name], generated))
    assert shown[1:] == [2**40, 2**33, "Reading", None, [200, 200]]
    assert subjects(user) == ["In a batch", "Generated"]
    (*_, message) = user.messages()
    assert (message["level"], message["data"], message["sent_at"]) == ("warning", {"order": 42}, "2026-01-31T12:00:00Z")
    (task,) = user.tasks()
    assert (task["status"], task["url"]) == ("succeeded", "/report")


def test_openapi_generator_makes_a_client_in_python(generated: Path, service: Service, user_of: Any) -> None:
    user: User = user_of(service, unique())
    shown = run([sys.executable, "-c", PYTHON, service.url, API_KEY, user.name], generated / "python")
    assert shown.split() == ["False", str(2**40), str(2**33), "Reading", "UTC", "200"]
    assert subjects(user) == ["From Python"]
