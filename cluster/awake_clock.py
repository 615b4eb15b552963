"""A clock for deadlines, on which no time passes while this process is suspended.

A closed laptop, Ctrl-Z and SIGSTOP suspend a driver, mostly with its workers. What the workers are
at must not be late for that when all of them go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable

# Whoever keeps deadlines looks twice a second. On a busy machine that takes some seconds at times;
# where it was longer, deadlines are that much later, which does no harm.
_GAP_S = 10.0


class AwakeClock:
    """Gives seconds, of which longer gaps between two looks are left out.

    Args:
        clock: gives seconds. Default: `time.monotonic`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_s = clock()
        self._asleep_s = 0.0

    def now_s(self) -> float:
        """Gives the time; to be asked for again within seconds."""
        now_s = self._clock()
        gap_s, self._looked_s = now_s - self._looked_s, now_s
        if gap_s > _GAP_S:
            self._asleep_s += gap_s
        return now_s - self._asleep_s
