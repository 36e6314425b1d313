"""A pytest plugin of `make test`: a skipped test, or one marked as expected to fail, fails the run."""

from __future__ import annotations

import pytest


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return
    unproven = [report.nodeid for kind in ("skipped", "xfailed") for report in reporter.stats.get(kind, [])]
    if unproven and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter.write_line(f"{len(unproven)} tests were skipped or expected to fail: {', '.join(unproven)}", red=True)
