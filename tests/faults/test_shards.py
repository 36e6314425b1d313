"""One shard of several is away: its users see it, the other users do not, and the process stays in the balancer."""

from __future__ import annotations

import httpx

from notifier.broker.redis.keys import Keys
from tests.stream_reader import StreamReader
from tests.support import RedisServer, Service, running, wait_for

KEYS = Keys(shards=2)


def ready(service: Service) -> tuple[int, dict[str, object]]:
    answer = httpx.get(f"{service.url}/readyz", timeout=5)
    return answer.status_code, answer.json()


def test_a_shard_that_is_away_degrades_its_own_streams_only() -> None:
    ann, bob = (next(f"u{n}" for n in range(99) if KEYS.shard_of_name(f"u{n}") == shard) for shard in (0, 1))
    with running(RedisServer()) as first, running(RedisServer(append_only=True)) as second:
        env = {"NOTIFIER_HEARTBEAT_S": "0.5"}
        with (
            running(Service(redis_url=f"{first.url},{second.url}", env=env)) as service,
            service.client() as api,
        ):
            readers = {user: StreamReader(service.url, user) for user in (ann, bob)}
            for reader in readers.values():
                reader.next("hello")
            assert ready(service) == (200, {"ready": True, "broker": "ok", "draining": False})
            second.kill()
            assert readers[bob].next("degraded") == ("degraded", {"degraded": True})
            wait_for(lambda: ready(service)[1]["broker"] == "degraded", what="the loss in /readyz")
            assert ready(service) == (
                200,
                {"ready": True, "broker": "degraded", "draining": False, "shards_away": [1]},
            )
            late = StreamReader(service.url, bob)
            assert late.next("degraded", "hello") == ("degraded", {"degraded": True})

            assert api.post("/v1/messages", json={"to": [f"user:{bob}"], "subject": "no"}).status_code == 503
            to_all = {"json": {"to": ["all"], "subject": "to all"}, "headers": {"Idempotency-Key": "to-all"}}
            refused = api.post("/v1/messages", **to_all)
            assert refused.status_code == 503
            assert "Retry-After" in refused.headers
            assert api.post("/v1/messages", json={"to": [f"user:{ann}"], "subject": "yes"}).status_code == 200
            name, shown = readers[ann].next("message", "degraded")
            assert (name, shown["subject"]) == ("message", "yes")

            second.start()
            wait_for(lambda: ready(service)[1]["broker"] == "ok", what="the return")
            assert late.next("hello", "reset")[0] == "hello"
            for _ in range(2):
                assert api.post("/v1/messages", **to_all).status_code == 200
            name, shown = readers[ann].next("message", "degraded")
            assert (name, shown["subject"]) == ("message", "to all")
            for user in (ann, bob):
                with service.user(user) as client:
                    listed = [message["subject"] for message in client.get("/v1/inbox").json()["messages"]]
                assert listed.count("to all") == 1
            for reader in (*readers.values(), late):
                reader.close()

            first.kill()
            second.kill()
            wait_for(lambda: ready(service)[1]["broker"] == "away", what="the loss of both in /readyz")
            assert ready(service) == (
                503,
                {"ready": False, "broker": "away", "draining": False, "shards_away": [0, 1]},
            )
            second.start()
            wait_for(lambda: ready(service)[0] == 200, what="the return of one")
