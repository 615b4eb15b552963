"""Another time for one module, and for no thread of the process but those that run its code."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest


def set_clock(patch: pytest.MonkeyPatch, module: str, **functions: Callable[..., object]) -> None:
    """Replace functions of `time` where `module` of this project calls them.

    A function of `time` itself would be replaced for all: the event loop of a server in another
    thread waits for hours once its clock has jumped.
    """
    patch.setattr(f"circuit_atlas.{module}.time", SimpleNamespace(**{**vars(time), **functions}))
