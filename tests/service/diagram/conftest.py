"""PNG files with other fonts than this machine's."""

from __future__ import annotations

from functools import partial

import pytest

from tests.fonts import DEJAVU


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has none."""
    resvg = pytest.importorskip("resvg_py")
    render = partial(resvg.svg_to_bytes, skip_system_fonts=True)
    monkeypatch.setattr(resvg, "svg_to_bytes", render)


@pytest.fixture
def dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with Debian's fonts-dejavu-core alone."""
    resvg = pytest.importorskip("resvg_py")
    files = [str(file) for file in DEJAVU]
    render = partial(resvg.svg_to_bytes, skip_system_fonts=True, font_files=files)
    monkeypatch.setattr(resvg, "svg_to_bytes", render)
