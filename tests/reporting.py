"""What the end of a run says: each reason once, however many tests it holds up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator

import pytest

_FAILED = pytest.StashKey[dict[BaseException, str]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_FAILED] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """The first test that a shared fixture fails is an error; the others are skipped for it.

    pytest keeps what a fixture raised, and raises the same again for each test that asks for it.
    """
    report = yield
    if call.when == "setup" and report.failed and call.excinfo is not None:
        failed = item.config.stash[_FAILED]
        first = failed.setdefault(call.excinfo.value, item.nodeid)
        if first != item.nodeid:
            path, line, _ = item.location
            report.outcome = "skipped"
            report.longrepr = (path, (line or 0) + 1, f"Skipped: it needs what failed for {first}")
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Why tests were skipped: a line a reason."""
    reasons = Counter(
        report.longrepr[2].removeprefix("Skipped: ")
        for report in terminalreporter.stats.get("skipped", [])
        if isinstance(report.longrepr, tuple)
    )
    if reasons:
        terminalreporter.section("skipped")
    for reason, count in reasons.most_common():
        terminalreporter.line(f"{count} skipped: {reason}")
