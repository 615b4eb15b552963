"""How long tests wait where the time is not their subject: enough for a laptop that does much else.

With eight busy processes beside it on two cores, everything took up to ten times as long.
"""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE_S = 60.0
"""For an answer, or for something to be shown."""
START_S = 180.0
"""For a program to start, or to end."""


def until(ready: Callable[[], object], what: str, *, within_s: float = PATIENCE_S) -> None:
    """Wait for something, and say what it was where it does not come."""
    deadline = time.monotonic() + within_s
    while not ready():
        assert time.monotonic() < deadline, f"waited {within_s:g} s for {what}"
        time.sleep(0.01)
