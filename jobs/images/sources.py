"""The sources of encoded images: a folder, a Parquet file, or the demo's photos.

A source lists its images once, by name in order, and reads any of them again later.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.images.entry import Entry
from circuit_atlas.jobs.images.parquet import PARQUET_SUFFIXES, read_parquet
from circuit_atlas.jobs.spec.sections import DEMO, ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest, one_line

SUFFIXES = frozenset(
    ".bmp .gif .jfif .jp2 .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)


def entries(spec: ImagesSpec) -> tuple[Entry, ...]:
    """Lists the images of the source by name, no more than the limit.

    Raises ImageError where there is no such source, or no image in it.
    """
    if spec.source.startswith(DEMO):
        listed = _demo(spec.source.removeprefix(DEMO))
    else:
        path = Path(spec.source)
        if path.is_dir():
            listed = _folder(path)
        elif path.is_file() and path.suffix in PARQUET_SUFFIXES:
            listed = read_parquet(path, column=spec.column)
        elif path.exists():
            raise ImageError(
                f"images.source {spec.source!r} is neither a folder nor a .parquet file: give one"
            )
        else:
            raise ImageError(
                f"no images at {spec.source!r}: give a folder of images, a .parquet file "
                'or "demo:photos"'
            )
    if not listed:
        kinds = "rows" if spec.source.endswith(PARQUET_SUFFIXES) else "images (.jpg, .png ...)"
        raise ImageError(f"no {kinds} in {spec.source!r}: give at least one")
    return tuple(sorted(listed, key=lambda entry: entry.name)[: spec.limit])


def _demo(name: str) -> list[Entry]:
    if name not in demo.IMAGES:
        known = nearest(name, demo.IMAGES, what="demo images")
        raise ImageError(f"the demo has no images {name!r}: {known}")
    return [
        Entry(photo.name, photo.label, row, photo.path.read_bytes)
        for row, photo in enumerate(demo.photos())
    ]


def _folder(root: Path) -> list[Entry]:
    """Every image below a folder; the first folder on the way names the class."""
    try:
        names = list(_walk(root))
    except OSError as error:
        raise ImageError(
            f"the images in {str(root)!r} cannot be listed: {one_line(error)}"
        ) from error
    return [
        Entry(_shown(name), _label(name), row, (root / name).read_bytes)
        for row, name in enumerate(names)
    ]


def _label(name: str) -> str | None:
    return _shown(name).split("/")[0] if "/" in name else None


def _shown(name: str) -> str:
    # A file's name may be any bytes; what is stored is text.
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: Path) -> Iterator[str]:
    """Names of image files relative to the root, with forward slashes; hidden files are not
    images. Linked folders are followed, each real folder once."""

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
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield (Path(folder) / name).relative_to(root).as_posix()
