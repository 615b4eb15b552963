"""Chromium as Debian installs it, driven by Playwright."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from shutil import which
from typing import TYPE_CHECKING

import pytest

from tests.fonts import fontconfig
from tests.patience import PATIENCE_S, START_S

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext

# The shell draws without a window, in less of the processor's time.
CHROMIUM = which("chromium-headless-shell") or which("chromium")
IN_CHROMIUM = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="there is no chromium on the path (apt-get install chromium)"
    ),
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
def chromium() -> Iterator[Browser]:
    """A browser of Playwright's. While it is there, an event loop runs in this thread, and no
    other can be started."""
    from playwright.sync_api import sync_playwright

    with fontconfig() as fonts, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=_ARGUMENTS,
            env={**os.environ, **fonts},
            timeout=1000 * START_S,
        )
        yield browser
        browser.close()


def new_context(browser: Browser, **options: object) -> BrowserContext:
    """A window of its own, patient with whatever it is to show."""
    context = browser.new_context(**options)
    context.set_default_timeout(1000 * PATIENCE_S)
    return context
