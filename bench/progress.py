"""The cost of progress: `python -m bench.progress`.

1. For each item of a loop: `Progress` beside a counting generator and tqdm. One run, the candidates in turn within each
   repeat; the figure is the median over the repeats of (loop over the wrapped iterable - bare loop of the same
   repeat) / items. The loops' bodies are empty, so the figure contains nothing else.
2. For a loop that reports: `Progress` with a `Task`, a report for each item by `Task.advance`, a line of output for
   each item by `Task.write`, a report by celery-progress's `ProgressRecorder`, and by this package's replacement of it.
   All use one real Redis on this machine and a database in a file; the figures are the calls that Redis counted, and
   the statements of the database.
3. With `--base FOLDER`, another checkout of this repository: `Progress` here and there, in turn, and a call of
   `Task.write` that joins others. Both in processor time of the calling thread: other programs change that little.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tqdm import tqdm

from django_bridge import Progress, Task
from django_bridge.task.reporter import MAX_JOINED_CHARS
from tests.support import RedisServer, running

HERE = Path(__file__).resolve().parent.parent
Wrap = Callable[[Any], Iterable[Any]]


def counting(items: Iterable[Any], total: int) -> Iterator[Any]:
    """The obvious implementation: a generator that counts, and reports after every tenth of the items."""
    step = max(1, total // 10)
    for done, item in enumerate(items, 1):
        yield item
        if done % step == 0:
            report()


def report() -> None:
    """Called after each tenth."""


def candidates(total: int) -> dict[str, Wrap]:
    sink = open(os.devnull, "w")  # noqa: SIM115  # open for the whole run
    return {
        "bare loop": lambda items: items,
        "Progress": lambda items: Progress(items, parts=10, callback=report, total=total),
        "counting generator": lambda items: counting(items, total),
        "tqdm": lambda items: tqdm(items, file=sink, total=total),
    }


def sources(items: int) -> dict[str, Callable[[], Any]]:
    """Functions, because a generator can be used by one loop only."""
    in_a_list = list(range(items))
    in_a_tuple = tuple(in_a_list)
    return {
        "range": lambda: range(items),
        "list": lambda: in_a_list,
        "tuple": lambda: in_a_tuple,
        "generator, with total=": lambda: (n for n in in_a_list),
    }


def loop_ns(wrap: Wrap, source: Any) -> int:
    started = time.perf_counter_ns()
    for _ in wrap(source):
        pass
    return time.perf_counter_ns() - started


def overheads(make: Callable[[], Any], items: int, repeats: int) -> dict[str, list[float]]:
    """Nanoseconds per item over the bare loop, of each repeat."""
    wraps = candidates(items)
    samples: dict[str, list[float]] = {name: [] for name in wraps}
    for _ in range(repeats):
        bare = loop_ns(wraps["bare loop"], make())
        for name, wrap in wraps.items():
            took = bare if name == "bare loop" else loop_ns(wrap, make())
            samples[name].append((took - bare) / items if name != "bare loop" else took / items)
    return samples


# Reporting


def project(folder: str, redis_url: str) -> None:
    """A Django project on the transport `redis`, with its tables."""
    import django
    from django.conf import settings
    from django.core.management import call_command

    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "django_bridge"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{folder}/bench.sqlite3"}},
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        USE_TZ=True,
        NOTIFIER={"TRANSPORT": "redis", "REDIS_URL": redis_url},
    )
    django.setup()
    call_command("migrate", verbosity=0)


def celery_task(backend: str) -> Any:
    """A bound Celery task as inside a worker: with an id, and a backend for its results."""
    from celery import Celery

    app = Celery("bench", broker="memory://", backend=backend, set_as_current=False)

    @app.task(bind=True, name="bench.work")
    def work(self: Any) -> None: ...

    work.push_request(id=str(uuid.uuid4()))
    return work


def with_task(items: Sequence[int]) -> None:
    with Task(from_user=1, task_name="bench") as task:
        for _ in Progress(items, parts=100, task=task):
            pass


def with_advance(items: Sequence[int]) -> None:
    with Task(from_user=1, task_name="bench") as task:
        task.begin(total=len(items))
        for _ in items:
            task.advance()


def with_write(items: Sequence[int]) -> None:
    with Task(from_user=1, task_name="bench") as task:
        for _ in items:
            task.write("a line of output\n")


def recording(recorder: Any, items: Sequence[int]) -> None:
    total = len(items)
    for done, _ in enumerate(items, 1):
        recorder.set_progress(done, total)


def reporters(redis_url: str) -> dict[str, Callable[[Sequence[int]], None]]:
    from celery_progress.backend import ProgressRecorder as TheirRecorder

    from django_bridge.compat import celery_progress as ours

    def our_recorder(items: Sequence[int]) -> None:
        task = celery_task("cache+memory://")
        recording(ours.ProgressRecorder(task, user=1), items)
        ours._over(task, "SUCCESS")

    return {
        "Progress, parts=100, with a Task": with_task,
        "Task.advance() for each item": with_advance,
        "Task.write() for each item": with_write,
        "our ProgressRecorder.set_progress": our_recorder,
        "celery-progress, results in Redis": lambda items: recording(TheirRecorder(celery_task(redis_url)), items),
        "celery-progress, results in memory": lambda items: recording(
            TheirRecorder(celery_task("cache+memory://")), items
        ),
    }


def redis_calls(server: RedisServer) -> int:
    """Commands sent to Redis, without those inside scripts and those of this measurement."""
    with server.client() as client:
        stats: Any = client.info("commandstats")
    inside = ("cmdstat_info", "cmdstat_client|setinfo", "cmdstat_hello")
    sent = {name: stat["calls"] for name, stat in stats.items() if not name.startswith(inside)}
    return sum(calls for name, calls in sent.items() if name in SENT)


SENT = {
    f"cmdstat_{name}" for name in ("evalsha", "eval", "get", "set", "setex", "publish", "subscribe", "multi", "exec")
}
"""The commands that clients send; `evalsha` counts once, whatever its script does."""


def reported(work: Callable[[Sequence[int]], None], server: RedisServer, items: int) -> tuple[float, int, int]:
    """Nanoseconds per item over the bare loop, Redis calls, statements of the database that write (by any thread)."""
    from django.db import connections
    from django.db.backends.signals import connection_created

    statements: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    def watched(connection: Any, **_: Any) -> None:
        connection.execute_wrappers.append(watch)

    connections.close_all()
    connection_created.connect(watched)
    source = range(items)
    bare = loop_ns(lambda items: items, source)
    before = redis_calls(server)
    started = time.perf_counter_ns()
    work(source)
    took = time.perf_counter_ns() - started
    connection_created.disconnect(watched)
    calls = redis_calls(server) - before
    return (took - bare) / items, calls, sum(sql.startswith(("INSERT", "UPDATE")) for sql in statements)


def print_reports(items: int) -> None:
    with running(RedisServer()) as server, tempfile.TemporaryDirectory() as folder:
        project(folder, server.url)
        print(f"\nA loop over {items:,} items that reports, one run each; figures for 100,000 items\n")
        print(row(["loop", "ns per item over the bare loop", "Redis calls", "database writes"]))
        print(row(["---", "---:", "---:", "---:"]))
        for name, work in reporters(server.url).items():
            overhead, calls, writes = reported(work, server, items)
            scaled = [f"{round(count * 100_000 / items):,}" for count in (calls, writes)]
            print(row([name, f"{overhead:,.0f}", *scaled]), flush=True)


# Beside another checkout

PROGRESS = """
import sys, time
from django_bridge import Progress

def took(items):
    began = time.thread_time_ns()
    for _ in items:
        pass
    return time.thread_time_ns() - began

items = range(int(sys.argv[1]))
bare = min(took(items) for _ in range(3))
whole = min(took(Progress(items, parts=10, callback=lambda: None, total=len(items))) for _ in range(3))
print((whole - bare) / len(items))
"""


def progress_in(checkout: Path, items: int) -> float:
    """Nanoseconds per item of `Progress` over the bare loop, the least of three each, in a process of its own."""
    command = [sys.executable, "-c", PROGRESS, str(items)]
    return float(subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=True).stdout)


def joined_write() -> float:
    """Nanoseconds of a call of `Task.write` that joins the others: as many as are joined, without what sends them."""
    line = "a line of output\n"
    calls = MAX_JOINED_CHARS // len(line) - 2
    with Task(from_user=1, task_name="bench") as task:
        task.write(line)  # sent at once
        task.write(line)  # sets the time of the next piece
        began = time.thread_time_ns()
        for _ in range(calls):
            task.write(line)
        return (time.thread_time_ns() - began) / calls


def print_beside(base: Path, items: int, repeats: int) -> None:
    samples: dict[str, list[float]] = {f"Progress at {base.name}": [], "Progress here": []}
    checkouts = list(zip(samples, (base, HERE), strict=True))
    for repeat in range(repeats):
        for name, checkout in checkouts[:: -1 if repeat % 2 else 1]:
            samples[name].append(progress_in(checkout, items))
    with running(RedisServer()) as server, tempfile.TemporaryDirectory() as folder:
        project(folder, server.url)
        samples["Task.write(), joined"] = [joined_write() for _ in range(repeats)]
    print(row(["call", "ns of processor time, median (least to most)"]))
    print(row(["---", "---:"]))
    for name, values in samples.items():
        print(row([name, f"{statistics.median(values):,.1f} ({min(values):,.1f} to {max(values):,.1f})"]))


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--reported", type=int, default=100_000, help="items of the loops that report; 0: none")
    parser.add_argument("--base", type=Path, help="another checkout: only what point 3 names")
    given = parser.parse_args()
    if given.base:
        print_beside(given.base.resolve(), given.items, given.repeats)
        return
    print(f"Python {platform.python_version()}, {given.items:,} items, median of {given.repeats} (least to most)\n")
    print(row(["source", "loop", "ns per item over the bare loop"]))
    print(row(["---", "---", "---:"]))
    for source, make in sources(given.items).items():
        for name, values in overheads(make, given.items, given.repeats).items():
            spread = f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"
            print(row([source, name, f"{spread}, by itself" if name == "bare loop" else spread]))
    if given.reported:
        print_reports(given.reported)


if __name__ == "__main__":
    main()
