"""One image of a source, before it is read, and the list of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Listing:
    """The images of a source.

    Attributes:
        entries: the images.
        passed_over: how many files of each suffix lie there and are taken for no images. Default:
            none.
    """

    entries: Sequence[Entry]
    passed_over: Mapping[str, int] = field(default_factory=dict)
