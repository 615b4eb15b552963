"""The sources of images: a folder, Parquet files, an array, or the demo's photos.

A source lists its images once, by name in order, and reads any of them again later.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.images.arrays import read_array, usual_beside
from circuit_atlas.jobs.images.entry import Entry, Listing, Source
from circuit_atlas.jobs.images.folder import FileBytes, open_folder
from circuit_atlas.jobs.images.limit import limited
from circuit_atlas.jobs.images.parquet import PARQUET_SUFFIXES, read_parquet
from circuit_atlas.jobs.images.stamp import stamp_of
from circuit_atlas.jobs.spec.images import DEMO, ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest


def open_source(spec: ImagesSpec) -> Source:
    """Finds the source; its listing has the images by name, no more than the limit.

    Raises ImageError, as its listing does, where there is no such source, or no image in it.
    """
    source = _opened(spec)

    def listing() -> Listing:
        found = source.listing()
        if not found.entries:
            others = ", ".join(f"{count} {kind}" for kind, count in found.passed_over.items())
            raise ImageError(
                f"no images (.jpg, .png ..., or rows of .parquet) in {spec.source!r}"
                f"{others and f', only {others}'}: give at least one"
            )
        return replace(found, entries=limited(found.entries, spec.limit))

    return replace(source, listing=listing)


def _opened(spec: ImagesSpec) -> Source:
    if spec.source.startswith(DEMO):
        return _demo(spec.source.removeprefix(DEMO), spec.limit)
    if spec.is_array:
        beside = [Path(name) for name in (spec.ids, spec.labels) if name is not None]
        path = Path(spec.source)
        return Source(stamp_of([path, *usual_beside(path), *beside]), partial(read_array, spec))
    return _files(spec)


def _files(spec: ImagesSpec) -> Source:
    path = Path(spec.source)
    if path.is_dir():
        folder = open_folder(path, label_level=spec.label_level)
        listing = folder.listing()
        shards = [] if listing.entries else _parquet_below(path)
        if not shards:
            return folder
        others = {k: n for k, n in listing.passed_over.items() if k not in PARQUET_SUFFIXES}
        return _shards(shards, spec, passed_over=others)
    if path.is_file() and path.suffix in PARQUET_SUFFIXES:
        return _shards([path], spec)
    matches = [] if path.exists() else sorted(Path(f) for f in glob.glob(spec.source))
    if matches and len(_parquet_files(matches)) == len(matches):
        return _shards(matches, spec)
    forms = (
        "a folder of images, a .parquet file, several as data/train-*.parquet, an array in a .npy "
        'file or a .zarr folder, or "demo:photos"'
    )
    if matches or path.exists():
        what = f"names {str(matches[0])!r}, which" if matches else "is a file that"
        raise ImageError(f"images.source {spec.source!r} {what} is no .parquet file: give {forms}")
    raise ImageError(f"no images at {spec.source!r}: give {forms}")


def _shards(
    paths: Sequence[Path],
    spec: ImagesSpec,
    *,
    passed_over: Mapping[str, int] = MappingProxyType({}),
) -> Source:
    return Source(
        stamp_of(paths), lambda: replace(read_parquet(paths, spec), passed_over=dict(passed_over))
    )


def _parquet_below(root: Path) -> list[Path]:
    """The Parquet files of a data set, by path; hidden files are none of it."""
    shown = (
        path
        for path in sorted(root.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(root).parts)
    )
    return _parquet_files(shown)


def _parquet_files(paths: Iterable[Path]) -> list[Path]:
    return [path for path in paths if path.suffix in PARQUET_SUFFIXES and path.is_file()]


def _demo(name: str, limit: int | None) -> Source:
    if name not in demo.IMAGES:
        known = nearest(name, demo.IMAGES, what="demo images")
        raise ImageError(f"the demo has no images {name!r}: {known}")

    def listing() -> Listing:
        # As many as were asked for before limits minded classes: two photos are of one.
        photos = demo.photos()[:limit]
        entries = [Entry(photo.name, photo.label, row) for row, photo in enumerate(photos)]
        return Listing(entries, FileBytes(photos[0].path.parent))

    # Whatever the photos are, they are checked by their digest.
    return Source(f"{DEMO}{name}", listing)
