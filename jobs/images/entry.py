"""One image of a source, before it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """An image by its name in the source.

    Attributes:
        name: unlike any other in the source.
        label: its class, where known.
        row: its row in the source; reading in the order of rows is fastest.
        read: gives the encoded bytes, each time anew; OSError where it can't.
    """

    name: str
    label: str | None
    row: int
    read: Callable[[], bytes]
