"""What `notifier check-broker` says of settings that the servers of the other tests do not have."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from notifier.broker.sqlite.file import File
from notifier.check import check_broker, rules
from notifier.check.result import CannotAsk, Result, Verdict
from notifier.check.sqlite import ROOM_MIB
from notifier.settings import load
from tests.support import REPOSITORY


def judged(
    name: str, config: Mapping[str, str] = {}, info: Mapping[str, str] = {}, *, fails_over: bool = False
) -> Result | None:
    server = rules.Server("a:1", config, {"redis_version": "7.0.15", **info}, [], fails_over)
    return next((result for result in rules.results(server) if result.name == name), None)


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ({"redis_version": "6.2.14"}, "weakens"),
        ({"redis_version": "7.0.0"}, "ok"),
        ({"redis_version": "10.0.1"}, "ok"),
        ({"redis_version": "7.2.4", "valkey_version": "9.0.0"}, "ok"),
    ],
)
def test_a_server_that_is_too_old_is_named(version: dict[str, str], verdict: Verdict) -> None:
    result = judged("version", info=version)
    assert result is not None
    assert result.verdict == verdict
    assert version.get("valkey_version", version["redis_version"]) in result.seen


@pytest.mark.parametrize(
    ("info", "verdict", "hidden"),
    [
        ({"run_id": "a1", "master_replid": "b2"}, "ok", "INFO shows run_id and master_replid"),
        ({"master_replid": "b2"}, "unknown", "INFO hides run_id: "),
        ({"run_id": "a1"}, "unknown", "INFO hides master_replid: "),
        ({"run_id": "", "master_replid": "0" * 40}, "weakens", "INFO hides run_id and master_replid: "),
        ({}, "weakens", "clients miss events without a reset"),
    ],
)
def test_a_server_by_whose_info_no_failover_is_recognised_is_named(
    info: dict[str, str], verdict: Verdict, hidden: str
) -> None:
    result = judged("identity", info=info)
    assert result is not None
    assert (result.verdict, hidden in result.seen, bool(result.fix)) == (verdict, True, verdict != "ok")


@pytest.mark.parametrize(
    ("info", "verdict", "seen"),
    [
        ({"role": "master"}, "ok", "primary"),
        ({}, "ok", "the service takes this server for a primary"),
        ({"role": "slave", "master_host": "b", "master_port": "1"}, "weakens", "replica of b:1"),
    ],
)
def test_a_role_is_judged_as_the_service_judges_it(info: dict[str, str], verdict: Verdict, seen: str) -> None:
    result = judged("role", info=info)
    assert result is not None
    assert (result.verdict, seen in result.seen) == (verdict, True)


def test_a_primary_that_fails_over_needs_a_replica() -> None:
    result = judged("replicas", {"min-replicas-to-write": "1"}, {"connected_slaves": "0"}, fails_over=True)
    assert result is not None
    assert (result.verdict, result.fix) == ("weakens", "add a replica")
    assert judged("replicas", {"min-replicas-to-write": "1"}, {"connected_slaves": "0"}) is None


@pytest.mark.parametrize(
    ("cluster_enabled", "price"),
    [
        ("0", "a new primary refuses writes until a replica follows it, 9 to 12 s with the Sentinels' own settings"),
        ("1", "a shard with a dead primary refuses writes until that is back"),
    ],
)
@pytest.mark.parametrize("config", [{"min-replicas-to-write": "0"}, {"min-replicas-max-lag": "0"}])
def test_the_fix_that_lets_a_new_primary_refuse_names_its_price_and_the_other_way(
    cluster_enabled: str, price: str, config: dict[str, str]
) -> None:
    info = {"connected_slaves": "1", "cluster_enabled": cluster_enabled}
    result = judged("replicas", {"min-replicas-to-write": "1", **config}, info, fails_over=True)
    assert result is not None
    commands, _, about = result.fix.partition("; ")
    assert commands.startswith("CONFIG SET min-replicas-")
    assert about == f"its price: {price}. NOTIFIER_REDIS_WAIT_REPLICAS=1 is the other way"
    page = " ".join((REPOSITORY / "docs" / "deploy.md").read_text().split())
    assert "9 to 12 seconds" in page
    assert "a shard whose primary died refuses until that is back" in page


def test_an_eviction_policy_without_a_limit_of_memory_evicts_nothing() -> None:
    config = {"maxmemory-policy": "allkeys-lru", "maxmemory": "0"}
    result = judged("eviction", config)
    assert result is not None
    assert result.verdict == "ok"
    result = judged("eviction", {**config, "maxmemory": "1"})
    assert result is not None
    assert result.verdict == "weakens"


@pytest.mark.parametrize(
    ("number", "quorum", "verdict", "fix"),
    [
        (1, 1, "weakens", "run three Sentinels on three machines"),
        (2, 2, "weakens", "run three Sentinels on three machines"),
        (3, 1, "weakens", "at each Sentinel: SENTINEL SET shop quorum 2"),
        (3, 2, "ok", ""),
        (3, 3, "weakens", "at each Sentinel: SENTINEL SET shop quorum 2"),
        (5, 2, "ok", ""),
        (5, 4, "ok", ""),
        (5, 5, "weakens", "at each Sentinel: SENTINEL SET shop quorum 3"),
    ],
)
def test_sentinels_of_which_one_dead_or_cut_off_decides_are_named(
    number: int, quorum: int, verdict: Verdict, fix: str
) -> None:
    result = rules.sentinels("a:1", number, quorum, "shop")
    assert (result.verdict, result.fix) == (verdict, fix)
    assert f"{number} Sentinels, quorum {quorum}" in result.seen


# The file


def of_file(path: Path, name: str) -> Result:
    return next(result for result in check_broker(load(broker_url=f"sqlite://{path}")) if result.name == name)


@pytest.mark.parametrize("refused", ["notifier.db", "notifier.db-lock", "."])
def test_a_file_or_folder_that_this_user_cannot_write_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """Asked of a stand-in: the administrator, as whom tests may run, can write everywhere."""
    path, unwritable = tmp_path / "notifier.db", tmp_path / refused
    File(path, "full").close()
    link = tmp_path / "elsewhere" / "link.db"
    link.parent.mkdir()
    link.symlink_to(path)
    assert of_file(path, "writable").verdict == "ok"
    access = os.access
    monkeypatch.setattr(os, "access", lambda item, mode: Path(item) != unwritable and access(item, mode))
    for name in (path, link):
        result = of_file(name, "writable")
        assert (result.verdict, str(unwritable) in result.seen) == ("weakens", True)


@pytest.mark.parametrize("suffix", ["", "-lock", "-wal", "-shm"])
def test_the_files_beside_the_target_of_a_symbolic_link_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """The service has its lock and its log there."""
    (tmp_path / "data").mkdir()
    target, link = tmp_path / "data" / "notifier.db", tmp_path / "link.db"
    link.symlink_to(target)
    file = File(link, "full")
    unwritable = target.with_name(target.name + suffix)
    access = os.access
    monkeypatch.setattr(os, "access", lambda item, mode: Path(item) != unwritable and access(item, mode))
    result = of_file(link, "writable")
    file.close()
    assert (result.verdict, str(unwritable) in result.seen) == ("weakens", True)


def test_a_file_with_a_hard_link_is_refused_as_by_the_service(tmp_path: Path) -> None:
    path = tmp_path / "notifier.db"
    File(path, "full").close()
    (tmp_path / "link.db").hardlink_to(path)
    with pytest.raises(CannotAsk, match="has 2 names"):
        of_file(path, "file")


def test_a_disk_that_is_nearly_full_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free_mib, verdict in ((ROOM_MIB, "ok"), (ROOM_MIB - 1, "weakens")):
        usage = SimpleNamespace(free=free_mib * 2**20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _, usage=usage: usage)
        result = of_file(tmp_path / "notifier.db", "space")
        assert (result.verdict, f"{free_mib} MiB" in result.seen) == (verdict, True)
