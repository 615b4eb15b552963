"""Values by key, the least used dropped first once they take more bytes than allowed."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

V = TypeVar("V")


class ByteCache(Generic[V]):
    """Safe to share between threads. A value larger than the whole is not kept."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.used_bytes = 0
        self._values: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> V | None:
        """The value, or None where it is not kept."""
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
