"""Chromium as Debian installs it, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fonts import fontconfig

CHROMIUM = Path("/usr/bin/chromium")
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM}"),
]
"""Marks of tests that drive it, for all of a file or a folder."""
_ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run"
).split()


def in_chromium(test: Callable[..., None]) -> Callable[..., None]:
    """Marks a single test that drives it."""
    for mark in IN_CHROMIUM:
        test = mark(test)
    return test


@contextmanager
def chromium() -> Iterator[object]:
    """A browser of Playwright's. While it is there, an event loop runs in this thread, and no
    other can be started."""
    from playwright.sync_api import sync_playwright

    with fontconfig() as fonts, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=_ARGUMENTS, env={**os.environ, **fonts}
        )
        yield browser
        browser.close()
