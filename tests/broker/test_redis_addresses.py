"""The forms of Redis' address, the shards that they mean, and the slots of their keys."""

from __future__ import annotations

import pytest

from notifier.broker.redis.addresses import Target, keys_of, parse_target
from notifier.broker.redis.keys import Keys, slot_of, slot_of_tag, tags_of


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("redis://a", Target("one", ("redis://a",))),
        ("rediss://u:p@a:6380/2?ssl_cert_reqs=none", Target("one", ("rediss://u:p@a:6380/2?ssl_cert_reqs=none",))),
        ("unix:///run/redis.sock?db=1", Target("one", ("unix:///run/redis.sock?db=1",))),
        ("redis://a:1,redis://u:p@b:2/3", Target("several", ("redis://a:1", "redis://u:p@b:2/3"))),
        (
            "redis+sentinel://u:p@s1,s2:2/main/3",
            Target("sentinel", ("redis://s1:26379/0", "redis://s2:2/0"), "main", "redis://u:p@s1:26379/3"),
        ),
        (
            "rediss+sentinel://s1/main?ssl_cert_reqs=none&sentinel_username=w&sentinel_password=p%40x",
            Target(
                "sentinel",
                ("rediss://w:p%40x@s1:26379/0?ssl_cert_reqs=none",),
                "main",
                "rediss://s1:26379/0?ssl_cert_reqs=none",
            ),
        ),
        ("redis+cluster://n1,[::1]:7/", Target("cluster", ("redis://n1:6379/0", "redis://[::1]:7/0"))),
        ("rediss+cluster://:p@n1?x=y", Target("cluster", ("rediss://:p@n1:6379/0?x=y",))),
    ],
)
def test_an_address_has_one_of_four_forms(url: str, target: Target) -> None:
    assert parse_target(url) == target


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("http://a", "must start with one of redis://, rediss://, unix://, redis\\+sentinel://"),
        ("redis://a:port", "'a:port' is not a host and a port"),
        ("redis://:secret@a:99999", "'a:99999' is not a host and a port"),
        ("redis://a/db", "'db' is not the number of a database"),
        ("redis://a:1,b:2", "a:1,b:2: after a comma, an address begins with its scheme"),
        ("redis://a:1,redis://:secret@:2", "':2' has no host"),
        ("redis://a,redis+cluster://:secret@b", "redis\\+cluster://b is not among several addresses"),
        ("redis+sentinel://s1,s2", "the name of the service is missing"),
        ("redis+sentinel://s1,/main", "'' has no host"),
        ("redis+sentinel://s1:x/main", "'s1:x' is not a host and a port"),
        ("redis+sentinel://s1/main/zero", "'zero' is not the number of a database"),
        ("redis+cluster://:secret@n1,n2:99999", "'n2:99999' is not a host and a port"),
        ("redis+cluster://n1/3", "a cluster has only the database 0"),
    ],
)
def test_an_error_names_the_bad_part_and_no_password(url: str, part: str) -> None:
    with pytest.raises(ValueError, match=part) as caught:
        parse_target(url)
    assert "secret" not in str(caught.value)


def test_several_primaries_have_a_shard_each() -> None:
    target = parse_target("redis://a,redis://b")
    assert keys_of(target, "p:", 1) == keys_of(target, "p:", 2) == Keys("p:", 2, "several")
    with pytest.raises(ValueError, match="2 addresses are 2 shards: NOTIFIER_SHARDS is 3"):
        keys_of(target, "p:", 3)


@pytest.mark.parametrize("placement", ["plain", "several", "sharded"])
def test_the_only_shard_keeps_its_tag_so_existing_data_stays_valid(placement: str) -> None:
    assert Keys("p:", 1, placement).seq(0) == "p:{0}:seq"  # type: ignore[arg-type]  # each is one


def test_on_one_primary_the_tags_are_numbers() -> None:
    assert [Keys("p:", 3).tag(shard) for shard in range(3)] == ["p:{0}:", "p:{1}:", "p:{2}:"]


@pytest.mark.parametrize("shards", [2, 3, 12, 100])
def test_the_shards_of_a_cluster_lie_in_the_middle_of_equal_parts_of_the_slots(shards: int) -> None:
    tags = tags_of(shards, is_sharded=True)
    for shard, tag in enumerate(tags):
        assert tag.startswith(f"{shard}.")
        assert 0.25 <= slot_of_tag(tag) * shards / 16384 - shard < 0.75
        smaller = (f"{shard}.{number}" for number in range(int(tag.partition(".")[2])))
        assert not any(0.25 <= slot_of_tag(other) * shards / 16384 - shard < 0.75 for other in smaller)


@pytest.mark.parametrize("nodes", [1, 2, 3, 4, 6, 12])
def test_twelve_shards_are_even_on_these_clusters(nodes: int) -> None:
    places = [slot_of_tag(tag) * nodes // 16384 for tag in tags_of(12, is_sharded=True)]
    assert [places.count(node) for node in range(nodes)] == [12 // nodes] * nodes


def test_a_slot_is_that_of_the_hash_tag() -> None:
    """The specification's example: the slot of 123456789 is 12739."""
    assert slot_of_tag("123456789") == 12739
    assert slot_of("notifier:{123456789}:log:user:{ann}") == 12739


def test_the_shard_of_a_topic_is_that_of_its_tag() -> None:
    keys = Keys("p:", 12, "sharded")
    for shard in range(12):
        assert keys.shard_of_topic(keys.announcements(shard, "user:a}:{1}b")) == shard
