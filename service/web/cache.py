"""What is kept between requests: values within a bound of bytes, or for a few seconds."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Keeps values by key; the least used go first once they take more bytes than allowed, and a
    value larger than that is not kept. Safe to share between threads."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.used_bytes = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """Return the value, or None where it is not kept."""
        with self._lock:
            if key not in self._values:
                return None
            self._values.move_to_end(key)
            return self._values[key][0]

    def put(self, key: Hashable, value: V, *, size_bytes: int) -> None:
        """Keep a value of that size, in place of the least used ones."""
        if size_bytes > self.size_bytes:
            return
        with self._lock:
            if key in self._values:
                self.used_bytes -= self._values.pop(key)[1]
            self._values[key] = (value, size_bytes)
            self.used_bytes += size_bytes
            while self.used_bytes > self.size_bytes:
                _, (_, dropped_bytes) = self._values.popitem(last=False)
                self.used_bytes -= dropped_bytes

    def __len__(self) -> int:
        return len(self._values)


class FreshValue(Generic[V]):
    """Keeps a value that is read again once it is some seconds old. Safe to share between threads.

    While one thread reads it again, the others go on with the last one.
    """

    def __init__(self, read: Callable[[V | None], V], *, fresh_s: float) -> None:
        """`read` gets the last value, or None at first."""
        self._read = read
        self._fresh_s = fresh_s
        self._lock = threading.Lock()
        self._last: tuple[float, V] | None = None

    def get(self) -> V:
        """Return the value; what `read` raises is raised."""
        last = self._last
        if last is not None and (self._is_fresh(last[0]) or self._lock.locked()):
            return last[1]
        with self._lock:
            last = self._last
            if last is None or not self._is_fresh(last[0]):
                value = self._read(None if last is None else last[1])
                last = self._last = (time.monotonic(), value)
        return last[1]

    def _is_fresh(self, since: float) -> bool:
        return time.monotonic() - since <= self._fresh_s
