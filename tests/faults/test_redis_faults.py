"""A Redis that loses data, is restored from older data, closes the connections, or stops answering."""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import time
from collections.abc import Callable

from notifier.broker.redis.keys import Keys
from notifier.broker.redis.scripts import publish_calls
from notifier.broker.values import History
from notifier.message import message_event
from tests.faults.clients import Listener, listening, until
from tests.faults.conftest import Scale
from tests.faults.proxy import Proxy
from tests.faults.publishers import Publisher
from tests.faults.test_nothing_lost import roomy
from tests.support import RedisServer, Service, running


async def test_a_black_hole_on_the_subscription_connection_is_noticed_and_loses_nothing(
    own_redis: RedisServer, seed: random.Random, figure: Callable[..., None]
) -> None:
    async with Proxy(own_redis.port) as proxy:
        service = await asyncio.to_thread(lambda: Service(redis_url=f"redis://127.0.0.1:{proxy.port}", env=roomy()))
        try:
            listeners = [Listener(service.port, f"u{i}") for i in range(5)]
            publisher = Publisher(service, ["user:u1", "all"], seed)
            async with listening(*listeners):
                async with publisher.publishing(50, at_least=100):
                    await until(lambda: listeners[1].messages, what="the first message")
                    assert proxy.swallow(b"-sub") == 1
                    swallowed = time.monotonic()
                    await until(lambda: all(listener.of("degraded") for listener in listeners), 30, "degraded")
                    noticed_s = time.monotonic() - swallowed
                await publisher.delivered(listeners)
            publisher.assert_complete(listeners)
            assert all((listener.connects, listener.resets) == (1, []) for listener in listeners)
            figure(noticed_s=round(noticed_s, 1), published=len(publisher.acknowledged), lost=0)
        finally:
            await asyncio.to_thread(service.stop)


async def test_an_output_buffer_kill_loses_nothing(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    env = roomy()
    with running(Service(redis_url=own_redis.url, env=env)) as service, own_redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 64kb 32kb 1")
        listener = Listener(service.port, "ann")
        keys = Keys(env["NOTIFIER_PREFIX"])
        sent: list[str] = []
        async with listening(listener):
            # While the service is stopped, Redis buffers more for it than the limit allows, and closes the connection.
            service.process.signal(signal.SIGSTOP)
            least = scale.whole(100, 5000)
            while len(sent) < least or any(row["name"].endswith("-sub") for row in client.client_list()):
                assert len(sent) < 5000 or scale.full, "Redis keeps the connection"
                for number in range(len(sent), len(sent) + 100):
                    event = message_event({"to": ["user:ann"], "subject": str(number), "text": "x" * 10_000})
                    for call in publish_calls(event, keys, history=History(10_000, 10_000, 3600)):
                        client.eval(call.script.source, len(call.keys), *call.keys, *call.args)
                    sent.append(event.message_id)
            service.process.signal(signal.SIGCONT)
            await until(lambda: len(listener.messages) >= len(sent), 60, "every message")
        assert [message.data["id"] for message in listener.messages] == sent
        assert not listener.resets
        figure(published=len(sent), lost=0)


async def test_a_rollback_to_older_data_resets_every_client(
    seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(RedisServer()) as server, running(Service(redis_url=server.url, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(scale.whole(10, 100))]
        gone = Listener(service.port, "u0")
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners, gone):
            await publisher.publish_for(0.5, 100)
            with server.client() as client:
                client.save()
            shutil.copy(server.folder / "dump.rdb", server.folder / "older.rdb")
            await publisher.publish_for(0.5, 100)
            await until(
                lambda: all(
                    listener.messages[-1].data["id"] == publisher.due(listener)[-1] for listener in [*listeners, gone]
                )
            )
            gone.comes_back = False
            gone.cut()
            await until(lambda: not gone.live)
            server.kill()
            shutil.copy(server.folder / "older.rdb", server.folder / "dump.rdb")
            await asyncio.to_thread(server.start)
            await until(lambda: all(listener.resets for listener in listeners), 20, "a reset at every open stream")
            await publisher.publish_for(1, 100)
            late = publisher.acknowledged[-1][1]
            await until(lambda: all(listener.messages[-1].data["id"] == late for listener in listeners))
        returned = Listener(service.port, "u0", cursor=gone.cursor)
        async with listening(returned):
            await until(lambda: returned.resets)
            assert returned.resets[0].data["reason"] == "epoch_changed"
        assert all(listener.connects == 1 and len(listener.resets) == 1 for listener in listeners)
        figure(clients=len(listeners) + 1, reset=len(listeners) + 1)


async def test_wiped_data_under_load_makes_a_reset_and_no_short_replay(
    own_redis: RedisServer, seed: random.Random, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=own_redis.url, env=roomy())) as service, own_redis.client() as client:
        listeners = [Listener(service.port, f"u{i}") for i in range(10)]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            async with publisher.publishing(100, at_least=100):
                await until(lambda: len(listeners[0].messages) > 50)
                cursor = listeners[0].cursor
                client.flushall()
                await until(lambda: all(listener.resets for listener in listeners), what="a reset")
            await publisher.publish_for(0.5, 100)  # after the reset, so that it comes live
            await until(
                lambda: all(listener.messages[-1].data["id"] == publisher.due(listener)[-1] for listener in listeners)
            )
        away = Listener(service.port, "u0", cursor=cursor)
        async with listening(away):
            await until(lambda: away.resets)
            assert away.of("hello")[0].data["recovered"] is False
            assert away.resets[0].data["reason"] == "epoch_changed"
        figure(clients=len(listeners), reset=len(listeners), published=len(publisher.acknowledged))


async def test_a_log_or_a_meta_that_vanished_under_load_never_makes_a_silent_gap(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    env = roomy()
    keys = Keys(env["NOTIFIER_PREFIX"])
    with running(Service(redis_url=own_redis.url, env=env)) as service, own_redis.client() as client:
        resets = 0
        for gone in (keys.log(0, "user:ann"), keys.meta(0, "user:ann")):
            listener = Listener(service.port, "ann", pause_s=0.01)
            publisher = Publisher(service, ["user:ann"], seed)

            def damage(key: str = gone, victim: Listener = listener) -> None:
                client.delete(key)
                victim.cut()

            await _publish_and_damage(listener, publisher, damage, seed, scale.whole(6, 25))
            _assert_every_gap_has_a_reset(listener, publisher)
            resets += len(listener.resets)

            await publisher.publish_for(0.2, 100)  # missed by the listener, and deleted before it returns
            client.delete(gone)
            returned = Listener(service.port, "ann", cursor=listener.cursor)
            async with listening(returned):
                await until(lambda back=returned: back.resets)  # type: ignore[misc]
            assert returned.resets[0].data["reason"] == "history_lost"
            resets += 1
        figure(resets=resets, silent_gaps=0)


async def _publish_and_damage(
    listener: Listener, publisher: Publisher, damage: Callable[[], None], seed: random.Random, times: int
) -> None:
    async with listening(listener):
        async with publisher.publishing(200, at_least=times * 10):
            for _ in range(times):
                damage()
                await asyncio.sleep(seed.uniform(0.05, 0.2))
        # The last messages may be covered by a reset, which does not send them again. These are delivered live.
        await until(lambda: listener.live)
        await publisher.publish_for(0.5, 50)
        last = publisher.acknowledged[-1][1]
        await until(lambda: listener.messages and listener.messages[-1].data["id"] == last)


def _assert_every_gap_has_a_reset(listener: Listener, publisher: Publisher) -> None:
    """Between two messages that are not consecutive there is a reset."""
    numbers = {message_id: number for number, (_, message_id) in enumerate(publisher.acknowledged)}
    last = -1
    was_reset = False
    for event in listener.events:
        was_reset = was_reset or event.type == "reset"
        if event.type == "message":
            number = numbers[event.data["id"]]
            assert number == last + 1 or (was_reset and number > last), f"{number} follows {last} without a reset"
            last, was_reset = number, False


async def test_two_hundred_users_with_hostile_names_receive_only_their_own(redis_service: Service) -> None:
    names = [
        "a",
        "a_b",
        "a:b",
        "{a}",
        "{0}",
        "*",
        "?",
        "[a-z]",
        "a*",
        "user:a",
        "ü",
        "用户",
        "\u202e",
        "'\"\\",
        "a b",
        "%61",
    ]
    names += [f"{name}{number}" for name in names for number in range(12)]
    listeners = [Listener(redis_service.port, name) for name in names[:200]]
    async with listening(*listeners):
        with redis_service.client() as client:
            for listener in listeners:
                answer = client.post("/v1/messages", json={"to": [f"user:{listener.user}"], "subject": listener.user})
                assert answer.status_code == 200, answer.text
        await until(lambda: all(listener.messages for listener in listeners))
    for listener in listeners:
        assert [message.data["subject"] for message in listener.messages if message.data["subject"] in names] == [
            listener.user
        ]


async def test_streams_that_a_living_redis_refused_to_open_are_opened_later(own_redis: RedisServer) -> None:
    with running(Service(redis_url=own_redis.url, env=roomy())) as service, own_redis.client() as client:
        listeners = [Listener(service.port, f"u{i}") for i in range(20)]
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-evalsha", "-eval"], keys=["*"])
        tasks = [asyncio.create_task(listener.run()) for listener in listeners]
        await until(lambda: all(listener.connects for listener in listeners))
        await asyncio.sleep(0.3)
        assert not any(listener.live for listener in listeners)
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all"], keys=["*"])
        await until(lambda: all(listener.live for listener in listeners), what="hello at every stream")
        assert all(listener.connects == 1 for listener in listeners)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_memory_and_cpu_stay_flat_while_redis_is_away(
    own_redis: RedisServer, seed: random.Random, scale: Scale, figure: Callable[..., None]
) -> None:
    with running(Service(redis_url=own_redis.url, env=roomy())) as service:
        listeners = [Listener(service.port, f"u{i}") for i in range(scale.whole(50, 500))]
        publisher = Publisher(service, ["all"], seed)
        async with listening(*listeners):
            await publisher.publish_for(0.5, 100)
            own_redis.kill()
            await until(lambda: all(listener.of("degraded") for listener in listeners), what="degraded")
            # First with publishers that keep retrying, then with open streams alone.
            publishing = asyncio.create_task(publisher.publish_for(0.1, 500))
            await asyncio.sleep(1)
            memory_before, _ = service.used()
            await asyncio.sleep(scale(2, 60))
            memory_after, _ = service.used()
            assert not publishing.done()
            await asyncio.to_thread(own_redis.start)
            await publishing
            await until(lambda: all(listener.of("degraded")[-1].data == {"degraded": False} for listener in listeners))
            own_redis.kill()
            await until(lambda: all(len(listener.of("degraded")) == 3 for listener in listeners), what="degraded again")
            (_, cpu_before), alone_s = service.used(), scale(2, 30)
            await asyncio.sleep(alone_s)
            _, cpu_after = service.used()
            await asyncio.to_thread(own_redis.start)
            await until(lambda: all(listener.of("degraded")[-1].data == {"degraded": False} for listener in listeners))
        share = (cpu_after - cpu_before) / alone_s
        assert memory_after - memory_before < 4
        assert share < 0.5  # connection attempts without a pause would take all of it
        figure(
            streams=len(listeners),
            refused=publisher.refused,
            grown_MiB=round(memory_after - memory_before, 2),
            percent_of_a_core_while_away=round(100 * share, 1),
        )
