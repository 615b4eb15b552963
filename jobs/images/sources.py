"""The sources of images: a folder, Parquet files, tar shards, an array, or the demo's photos.

A source lists its images once, by name in order, and reads any of them again later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.images.arrays import array_files, read_array
from circuit_atlas.jobs.images.entry import Entry, Listing, Source
from circuit_atlas.jobs.images.folder import FileBytes, open_folder
from circuit_atlas.jobs.images.limit import limited
from circuit_atlas.jobs.images.named_files import SourceFile, named_files
from circuit_atlas.jobs.images.object_files import is_url, open_bucket
from circuit_atlas.jobs.images.object_folder import list_objects
from circuit_atlas.jobs.images.parquet import PARQUET_SUFFIXES, read_parquet
from circuit_atlas.jobs.images.stamp import stamp_of
from circuit_atlas.jobs.images.tar_shards import TAR_SUFFIXES, read_tars
from circuit_atlas.jobs.spec.images import DEMO, ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.patience import READERS_S
from circuit_atlas.storage_schema.wording import nearest

_PARQUET, _TAR = "Parquet", "tar"
_FORMS = (
    "a folder of images, a .parquet file or a .tar shard, several as train-*.parquet or "
    "train-{000..099}.tar, an array in a .npy file or a .zarr folder, the URL of any of these, as "
    's3://bucket/folder, or "demo:photos"'
)


def open_source(spec: ImagesSpec, *, patience_s: float = READERS_S) -> Source:
    """Finds the source; its listing has the images by name, no more than the limit.

    Args:
        spec: names it.
        patience_s: how long an object store is waited for that does not answer, in seconds.
            Default: that of readers.

    Raises:
        ImageError: there is no such source, or, as its listing says, no image in it.
        InfrastructureError: an object store gives no answer.
    """
    local = spec.source.removeprefix("file://")
    source = _opened(spec.model_copy(update={"source": local}), patience_s)

    def listing() -> Listing:
        found = source.listing()
        if not found.entries:
            others = ", ".join(f"{count} {kind}" for kind, count in found.passed_over.items())
            raise ImageError(
                "no images (.jpg, .png ..., rows of .parquet, or samples of .tar) in "
                f"{spec.shown_source!r}"
                f"{others and f', only {others}'}: give at least one"
            )
        return replace(found, entries=limited(found.entries, spec.limit))

    return replace(source, listing=listing)


def _opened(spec: ImagesSpec, patience_s: float) -> Source:
    if spec.source.startswith(DEMO):
        return _demo(spec.source.removeprefix(DEMO), spec.limit)
    if spec.is_array:
        files = array_files(spec, patience_s=patience_s)
        return Source(stamp_of(files), partial(read_array, spec, patience_s=patience_s))
    files = named_files(spec.source, patience_s=patience_s)
    if files:
        return _shards(files, [file.name for file in files], spec)
    if is_url(spec.source):
        return _prefix(spec, patience_s)
    path = Path(spec.source)
    if path.is_dir():
        return _folder(path, spec)
    raise ImageError(f"no images at {spec.shown_source!r}: give {_FORMS}")


def _folder(path: Path, spec: ImagesSpec) -> Source:
    """The images in a folder; where there is none, its Parquet files, or else its tar shards."""
    folder = open_folder(path, label_level=spec.label_level)
    if not folder.empty:
        return folder
    below = (file.relative_to(path) for file in sorted(path.rglob("*")) if file.is_file())
    shown = [file for file in below if not any(part.startswith(".") for part in file.parts)]
    names = _shards_among([file.as_posix() for file in shown])
    if not names:
        return folder
    beside = folder.listing().passed_over
    return _shards([path / name for name in names], names, spec, beside=beside)


def _prefix(spec: ImagesSpec, patience_s: float) -> Source:
    """The same below a prefix of an object store."""
    bucket, key = open_bucket(spec.source, patience_s=patience_s)
    prefix = f"{key.rstrip('/')}/" if key else ""
    files = {file.key.removeprefix(prefix): file for file in bucket.below(key)}
    if not files:
        raise ImageError(f"no images at {spec.shown_source!r}: give {_FORMS}")
    listing = list_objects(bucket, prefix, list(files), label_level=spec.label_level)
    names = [] if listing.entries else _shards_among(list(files))
    if not names:
        return Source(stamp_of(files.values()), lambda: listing)
    return _shards([files[name] for name in names], names, spec, beside=listing.passed_over)


def _shards(
    files: Sequence[SourceFile],
    names: Sequence[str],
    spec: ImagesSpec,
    *,
    beside: Mapping[str, int] = MappingProxyType({}),
) -> Source:
    """Parquet files or tar shards, by names in the source, perhaps with other files beside them."""
    kinds = [_kind(name) for name in names]
    odd = next((n for n, kind in enumerate(kinds) if kind is None or kind != kinds[0]), None)
    if odd is not None:
        named = str(files[odd])
        what = "is a file that" if named == spec.shown_source else f"names {named!r}, which"
        lack = "no .parquet file and no .tar" if kinds[odd] is None else "of another kind"
        raise ImageError(f"images.source {spec.shown_source!r} {what} is {lack}: give {_FORMS}")

    def listing() -> Listing:
        tars = kinds[0] == _TAR
        found = read_tars(files, names, spec) if tars else read_parquet(files, spec)
        own = {Path(name).suffix.lower() for name in names}
        others = Counter({kind: count for kind, count in beside.items() if kind not in own})
        return replace(found, passed_over=others + Counter(found.passed_over))

    return Source(stamp_of(files), listing)


def _shards_among(names: Sequence[str]) -> list[str]:
    """The Parquet files, or where there are none, the tar shards."""
    for wanted in (_PARQUET, _TAR):
        shards = [name for name in names if _kind(name) == wanted]
        if shards:
            return shards
    return []


def _kind(name: str) -> str | None:
    if name.endswith(PARQUET_SUFFIXES):
        return _PARQUET
    return _TAR if name.endswith(TAR_SUFFIXES) else None


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
