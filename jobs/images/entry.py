"""One image of a source, before it is read; the list of them; and the source they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Entry:
    """An image by its name in the source.

    Attributes:
        name: unlike any other in the source.
        label: its class, where known.
        row: its row in the source; reading in the order of rows is fastest.
    """

    name: str
    label: str | None
    row: int


class ReadsBytes(Protocol):
    """Reads images of a source. It travels to other machines, where the source lies at the same
    place, and is small: files are opened, and what is kept of them begins anew, where it reads."""

    def __call__(self, entry: Entry) -> bytes:
        """Gives an image's encoded bytes, each time anew; OSError where it can't."""
        ...


@dataclass(frozen=True)
class Listing:
    """The images of a source.

    Attributes:
        entries: the images.
        read: reads any of them.
        passed_over: how many files of each suffix lie there and are taken for no images. Default:
            none.
    """

    entries: Sequence[Entry]
    read: ReadsBytes
    passed_over: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where images are from.

    Attributes:
        stamp: another one where a file of the source was added, removed, renamed, or written anew
            with another size or at another time. No image is read for it.
        listing: lists the images; ImageError where that cannot be done.
        empty: whether it is known already that there is none. Default: not.
    """

    stamp: str
    listing: Callable[[], Listing]
    empty: bool = False
