"""One picture of a source, before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A picture by its name in the source.

    Attributes:
        name: unlike any other in the source.
        label: its class, where known.
        place: where it lies in the source; reading in this order is fastest.
        read: gives the encoded bytes, each time anew; OSError where it can't.
    """

    name: str
    label: str | None
    place: int
    read: Callable[[], bytes]
