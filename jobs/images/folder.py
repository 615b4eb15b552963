"""Images in a folder, by what their files hold, with the folder beside a file as its class."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from circuit_atlas.jobs.images.entry import Entry, Listing
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


def read_folder(root: Path, *, label_level: int) -> Listing:
    """Lists every image below a folder, and counts the other files by suffix.

    Hidden files are neither. Linked folders are followed, each real folder once. Raises ImageError
    where a folder cannot be listed.

    Args:
        root: the folder.
        label_level: as in `ImagesSpec`.
    """
    passed_over: Counter[str] = Counter()
    names = []
    try:
        for name in _walk(root):
            suffix = Path(name).suffix.lower()
            if suffix in SUFFIXES or _begins_as_image(root / name):
                names.append(name)
            else:
                passed_over[suffix or "without a suffix"] += 1
    except OSError as error:
        raise ImageError(
            f"the images in {str(root)!r} cannot be listed: {one_line(error)}"
        ) from error
    entries = [
        Entry(_shown(name), _label(_shown(name), label_level), row, (root / name).read_bytes)
        for row, name in enumerate(names)
    ]
    return Listing(entries, passed_over)


def _label(name: str, level: int) -> str | None:
    """The folder on the way to a file, counted from 1 at the root, or from -1 at the file."""
    folders = name.split("/")[:-1]
    if level == 0 or abs(level) > len(folders):
        return None
    return folders[level - 1 if level > 0 else level]


def _begins_as_image(path: Path) -> bool:
    if not path.is_file():  # to read from a pipe would wait for ever
        return False
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except OSError:  # a file that cannot be opened and does not claim to be an image
        return False
    webp = head.startswith(b"RIFF") and head[8:12] == b"WEBP"
    return head.startswith(_BEGINNINGS) or webp or head[4:12] in _AVIF_BRANDS


def _shown(name: str) -> str:
    # A file's name may be any bytes; what is stored is text.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> Iterator[str]:
    """Names of files relative to the root, with forward slashes."""

    def refuse(error: OSError) -> None:
        raise error

    seen: set[str] = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
