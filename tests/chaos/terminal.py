"""A terminal that somebody looks at, until its window is closed."""

from __future__ import annotations

import contextlib
import os
import select
import threading

_LOOK_S = 0.05


class Terminal:
    """A terminal of this process', for a program to open.

    Attributes:
        name: the path of its device.
    """

    def __init__(self) -> None:
        self._master, self._slave = os.openpty()
        self.name = os.ttyname(self._slave)
        self._closed = threading.Event()
        self._looking = threading.Thread(target=self._look)
        self._looking.start()

    def close(self) -> None:
        """Close it: whoever has it as theirs is sent SIGHUP, and can write to it no more."""
        self._closed.set()
        self._looking.join()
        os.close(self._master)
        os.close(self._slave)

    def _look(self) -> None:
        while not self._closed.is_set():
            if select.select([self._master], [], [], _LOOK_S)[0]:
                with contextlib.suppress(OSError):
                    os.read(self._master, 1 << 16)
