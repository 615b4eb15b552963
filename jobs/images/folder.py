"""Images in a folder, by what their files hold, with the folder beside a file as its class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from circuit_atlas.jobs.images.entry import Entry, Listing, Source
from circuit_atlas.jobs.images.stamp import Stamp
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import one_line

SUFFIXES = frozenset(
    ".avif .bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
# How files begin that are images whatever their name says. TIFF is not among them: most cameras'
# raw files begin so, and hold a thumbnail of what they are of.
_BEGINNINGS = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"\0\0\0\x0cjP  \r\n")
_AVIF_BRANDS = (b"ftypavif", b"ftypavis")
_HEAD_BYTES = 16


def open_folder(root: Path, *, label_level: int) -> Source:
    """Finds every image below a folder, and counts the other files by suffix.

    Hidden files are neither. Linked folders are followed, each real folder once. Raises ImageError
    where a folder cannot be listed.

    Args:
        root: the folder.
        label_level: as in `ImagesSpec`.
    """
    passed_over: Counter[str] = Counter()
    names, stamp = [], Stamp()
    try:
        for name, file in _walk(str(root)):
            suffix = os.path.splitext(name)[1].lower()
            if _is_special(file):  # to read from a pipe would wait for ever
                passed_over["pipes and devices"] += 1
            elif suffix in SUFFIXES or _begins_as_image(file.path):
                names.append(name)
                stamp.add(name, file)
            else:
                passed_over[suffix or "without a suffix"] += 1
    except OSError as error:
        raise ImageError(
            f"the images in {str(root)!r} cannot be listed: {one_line(error)}"
        ) from error

    stamp.note(f"beside: {sorted(passed_over.items())}")

    def listing() -> Listing:
        shown = [_shown(name) for name in names]
        entries = [Entry(name, label_of(name, label_level), row) for row, name in enumerate(shown)]
        odd = {s: name for s, name in zip(shown, names, strict=True) if s != name}
        return Listing(entries, FileBytes(root, odd), passed_over)

    return Source(stamp.text(), listing, empty=not names)


@dataclass(frozen=True)
class FileBytes:
    """Reads files in a folder.

    Attributes:
        root: the folder.
        odd: the names of files by those of their entries, where they are others.
    """

    root: Path
    odd: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, entry: Entry) -> bytes:
        """Gives a file's bytes; OSError where it cannot be read."""
        return (self.root / self.odd.get(entry.name, entry.name)).read_bytes()


def label_of(name: str, level: int) -> str | None:
    """Gives the folder on the way to a file, counted from 1 at the root, or from -1 at the file;
    None where there is none."""
    folders = name.split("/")[:-1]
    if level == 0 or abs(level) > len(folders):
        return None
    return folders[level - 1 if level > 0 else level]


def _is_special(file: os.DirEntry[str]) -> bool:
    """Whether there is something that is no file; what is not there, such as a link to nothing, is
    an image that cannot be read."""
    return not _is(file.is_file) and os.path.exists(file.path)


def _is(kind: Callable[[], bool]) -> bool:
    """Whether an entry is of a kind; not where it is a link that leads in a circle."""
    try:
        return kind()
    except OSError:
        return False


def _begins_as_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # a file that cannot be opened and does not claim to be an image
        return False
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_BEGINNINGS) or webp or head[4:12] in _AVIF_BRANDS


def _shown(name: str) -> str:
    # A file's name may be any bytes; what is stored is text.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Files below the root, by folder, with their names relative to it."""
    seen: set[str] = set()
    waiting = [("", root)]
    while waiting:
        inside, folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        with os.scandir(folder) as found:
            shown = sorted(
                (entry for entry in found if not entry.name.startswith(".")),
                key=lambda entry: entry.name,
            )
        below = []
        for entry in shown:
            if _is(entry.is_dir):
                below.append((f"{inside}{entry.name}/", entry.path))
            else:
                yield f"{inside}{entry.name}", entry
        waiting += reversed(below)
