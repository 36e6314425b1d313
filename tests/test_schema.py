"""Schemathesis makes requests from the OpenAPI document, good ones and bad ones: nothing may answer 5xx, and what is
answered must be what the document says.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ADMIN_KEY, RedisServer, Service, running, subscriber_token

NOT_STATED = "positive_data_acceptance"
"""A schema cannot say all our rules (depth, bytes in all, done <= total, one body under a key, no lone surrogates):
what it allows may still be refused, with a 4xx that names the field."""


BATCH = "/v1/batch"
NOT_REFUSED = "negative_data_rejection"
"""An invalid item of a batch has a result of its own, in a 200."""


@pytest.fixture(scope="module", params=["embedded", "redis"])
def fuzzed(request: pytest.FixtureRequest, redis_server: RedisServer) -> object:
    url = "" if request.param == "embedded" else redis_server.url
    env = {"NOTIFIER_PUBLISH_RATE": "0", "NOTIFIER_PREFIX": "fuzzed:", "NOTIFIER_CONSOLE": "true"}
    with running(Service(redis_url=url, env=env)) as service:
        yield service


PRODUCERS = "publish administration operation"
SMALL = {("redis", PRODUCERS), ("embedded", "user"), ("embedded", BATCH)}
"""What `make test` runs: every operation and every broker."""
CASES = [
    pytest.param(broker, tags, examples, marks=() if examples == 5 and (broker, tags) in SMALL else pytest.mark.full)
    for broker in ("embedded", "redis")
    for tags in (PRODUCERS, "user", BATCH)
    for examples in (5, 50)
    if examples == 50 or (broker, tags) in SMALL
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("fuzzed", "tags", "examples"), CASES, indirect=["fuzzed"])
def test_generated_requests_meet_no_surprise(fuzzed: Service, tags: str, examples: int, tmp_path: Path) -> None:
    credential = subscriber_token("ann", groups=["staff"]) if tags == "user" else ADMIN_KEY
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{fuzzed.url}/openapi.json"]
    command += ["--header", f"Authorization: Bearer {credential}", "--phases", "examples,coverage,fuzzing"]
    command += ["--checks", "all", "--max-examples", str(examples), "--seed", "7", "--no-color"]
    if tags == BATCH:
        command += ["--include-path", BATCH, "--exclude-checks", f"{NOT_STATED},{NOT_REFUSED}"]
    else:
        command += ["--exclude-path", BATCH, "--exclude-checks", NOT_STATED]
        for tag in tags.split():
            command += ["--include-tag", tag]
    # By default a 413 is no refusal: some of what is generated has more bytes than the service takes.
    (tmp_path / "schemathesis.toml").write_text('[checks.negative_data_rejection]\nexpected-statuses = ["4xx"]\n')
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=550, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Traceback" not in fuzzed.process.output()
