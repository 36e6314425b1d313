"""What the output of a task costs a page: `python -m bench.output_page`.

A task has 1 MB of output when Chromium opens the page with its `<notifier-output>`; then 200 pieces a second arrive for
some seconds. Printed are the long tasks of the page's thread (PerformanceObserver `longtask`: over 50 ms by the clock),
and the most processor time that one of its tasks took: beside other programs a task also waits for a core.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from playwright.sync_api import Page, sync_playwright

from tests.browser.test_output import PAGE, TEXT
from tests.support import Service, running, subscriber_token, wait_for

PIECE = "a line of the output, with some words in it: 42 rows\n"
OBSERVE = """
window.longest = [];
new PerformanceObserver((list) => longest.push(...list.getEntries().map((entry) => Math.round(entry.duration))))
  .observe({ type: "longtask", buffered: true });
"""


def measured(page: Page, length: int) -> list[int]:
    """The long tasks (ms) until the page has text of this length; from then on others are counted."""
    # Not `textContent`: to join a megabyte would be a long task of its own.
    chars = f"[...{TEXT}.children].reduce((sum, block) => sum + block.firstChild.length, 0)"
    wait_for(lambda: page.evaluate(chars) == length, timeout_s=60, what="the text")
    durations: list[int] = page.evaluate("longest.splice(0)")
    return durations


def most_processor_ms(trace: bytes) -> float:
    """The most processor time of a task, of those of the renderer's thread with the most work."""
    events = json.loads(trace)["traceEvents"]
    threads = {(e["pid"], e["tid"]) for e in events if e.get("args", {}).get("name") == "CrRendererMain"}
    times: dict[tuple[int, int], list[float]] = defaultdict(list)
    for event in events:
        place = event["pid"], event["tid"]
        if event["name"] == "RunTask" and place in threads:
            times[place].append(event.get("tdur", 0) / 1000)
    return max(max(times.values(), key=sum))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=10)
    seconds = parser.parse_args().seconds
    with (
        running(Service(env={"NOTIFIER_TASK_OUTPUT_BYTES": str(4 << 20)})) as service,
        sync_playwright() as playwright,
        service.client() as publisher,
    ):
        post = publisher.post
        task = post("/v1/tasks", json={"to": ["user:bench"], "name": "Import"}).json()["id"]
        text = (PIECE * 400)[: 16 * 1024]
        for _ in range(61):
            post(f"/v1/tasks/{task}/output", json={"text": text}).raise_for_status()
        written = 61 * len(text)
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page()
        page.add_init_script(OBSERVE)
        body: Any = PAGE.format(task=task, token=subscriber_token("bench"))
        page.route("**/output", lambda route: route.fulfill(body=body, content_type="text/html"))
        categories = ["disabled-by-default-devtools.timeline"]
        browser.start_tracing(page=page, categories=categories)
        page.goto(f"{service.url}/output")
        print(f"1 MB at once: long tasks (ms) {measured(page, written) or 'none'}")
        # Little enough that nothing leaves the page.
        started, sent, most = time.monotonic(), 0, ((1 << 20) - written) // len(PIECE)
        while time.monotonic() - started < seconds and sent < most:
            if sent <= (time.monotonic() - started) * 200:
                post(f"/v1/tasks/{task}/output", json={"text": PIECE}).raise_for_status()
                sent += 1
            else:
                time.sleep(0.001)
        rate = sent / (time.monotonic() - started)
        print(f"{rate:.0f} pieces a second: long tasks (ms) {measured(page, written + sent * len(PIECE)) or 'none'}")
        print(f"the longest took {most_processor_ms(browser.stop_tracing()):.0f} ms of processor time")
        browser.close()


if __name__ == "__main__":
    main()
