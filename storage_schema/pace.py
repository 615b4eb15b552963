"""How slowly an answer may come: who sends a byte now and then would be waited for without end."""

from __future__ import annotations

import time

_UNHURRIED_S = 30.0
_SLOWEST_BYTES_S = 1024


class Pace:
    """Gives an answer up that comes too slowly. What whoever reads it does meanwhile is no part of
    the time."""

    def __init__(self) -> None:
        self._waited_s = 0.0
        self._size_bytes = 0

    def note(self, *, size_bytes: int, since_s: float) -> None:
        """Note that some bytes came, for which was waited since a time of `time.monotonic`;
        SlowError where after half a minute fewer than 1 KiB a second have come."""
        self._waited_s += time.monotonic() - since_s
        self._size_bytes += size_bytes
        if self._waited_s > _UNHURRIED_S and self._size_bytes < self._waited_s * _SLOWEST_BYTES_S:
            raise SlowError(
                f"less than {_SLOWEST_BYTES_S:,} bytes a second came, for {self._waited_s:.0f} s"
            )


class SlowError(TimeoutError):
    """An answer came too slowly."""
