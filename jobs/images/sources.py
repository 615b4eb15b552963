"""The sources of images: a folder, Parquet files, an array, or the demo's photos.

A source lists its images once, by name in order, and reads any of them again later.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.images.arrays import read_array
from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.folder import read_folder
from circuit_atlas.jobs.images.limit import limited
from circuit_atlas.jobs.images.parquet import PARQUET_SUFFIXES, read_parquet
from circuit_atlas.jobs.spec.images import DEMO, ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest


def entries(spec: ImagesSpec) -> Listing:
    """Lists the images of the source by name, no more than the limit.

    Raises ImageError where there is no such source, or no image in it.
    """
    if spec.source.startswith(DEMO):
        # As many as were asked for before limits minded classes: two photos are of one.
        listing = Listing(_demo(spec.source.removeprefix(DEMO))[: spec.limit])
    elif spec.is_array:
        listing = read_array(spec)
    else:
        listing = _files(spec)
    if not listing.entries:
        others = ", ".join(f"{count} {kind}" for kind, count in listing.passed_over.items())
        raise ImageError(
            f"no images (.jpg, .png ..., or rows of .parquet) in {spec.source!r}"
            f"{others and f', only {others}'}: give at least one"
        )
    return replace(listing, entries=limited(listing.entries, spec.limit))


def _files(spec: ImagesSpec) -> Listing:
    path = Path(spec.source)
    if path.is_dir():
        listing = read_folder(path, label_level=spec.label_level)
        shards = [] if listing.entries else _parquet_below(path)
        if not shards:
            return listing
        others = {k: n for k, n in listing.passed_over.items() if k not in PARQUET_SUFFIXES}
        return Listing(read_parquet(shards, spec), others)
    if path.is_file() and path.suffix in PARQUET_SUFFIXES:
        return Listing(read_parquet([path], spec))
    matches = [] if path.exists() else sorted(Path(f) for f in glob.glob(spec.source))
    if matches and len(_parquet_files(matches)) == len(matches):
        return Listing(read_parquet(matches, spec))
    forms = (
        "a folder of images, a .parquet file, several as data/train-*.parquet, an array in a .npy "
        'file or a .zarr folder, or "demo:photos"'
    )
    if matches or path.exists():
        what = f"names {str(matches[0])!r}, which" if matches else "is a file that"
        raise ImageError(f"images.source {spec.source!r} {what} is no .parquet file: give {forms}")
    raise ImageError(f"no images at {spec.source!r}: give {forms}")


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


def _demo(name: str) -> list[Entry]:
    if name not in demo.IMAGES:
        known = nearest(name, demo.IMAGES, what="demo images")
        raise ImageError(f"the demo has no images {name!r}: {known}")
    return [
        Entry(photo.name, photo.label, row, photo.path.read_bytes)
        for row, photo in enumerate(demo.photos())
    ]
