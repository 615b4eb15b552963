"""Images of an array, (images, channels, height, width), in a `.npy` file or a Zarr folder, with
their names and classes beside it.

Each image is read as the `.npy` file of it alone, so that its bytes say all of it.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from circuit_atlas.jobs.images.array_files import from_zarr, open_npy, open_zarr, read_rows
from circuit_atlas.jobs.images.entry import Entry, Listing
from circuit_atlas.jobs.images.named_files import SourceFile, file_at, still_there
from circuit_atlas.jobs.images.object_files import is_url, open_bucket
from circuit_atlas.jobs.spec.images import ImagesSpec
from circuit_atlas.storage_schema.documents import parse
from circuit_atlas.storage_schema.errors import AtlasError, ImageError, InfrastructureError
from circuit_atlas.storage_schema.http_address import shown
from circuit_atlas.storage_schema.wording import nearest, one_line

_SHAPE = "(images, channels, height, width)"
# Beside x.npy: x.labels.txt, one a line; a list in x.labels.json; or an array in x.labels.npy.
_BESIDE = (".txt", ".json", ".npy")
_GIVE = "give a text file, one a line, a .json or a .npy file"
_NPY = ".npy"
_IMAGES = "images"
_MEMBERS = {"ids": ("ids", "id", "names", "name"), "labels": ("labels", "label", "classes")}
# As in Hugging Face's data sets.
_NO_LABEL = ("", "-1")

_Array = Any  # a memory map of numpy's, or a Zarr array: both have shape, dtype and rows


@dataclass(frozen=True)
class ArrayListing(Listing):
    """The images of an array.

    Attributes:
        dtype: of its numbers.
        shape: of each image, (channels, height, width).
    """

    dtype: np.dtype[Any] = field(kw_only=True)
    shape: tuple[int, int, int] = field(kw_only=True)


def read_array(spec: ImagesSpec, *, patience_s: float) -> ArrayListing:
    """Lists one image a row of the array that `spec.source` names; an object store is waited for so
    long that does not answer.

    Raises ImageError where there is no such array, it is of another shape or holds no numbers, or
    names or classes are not as many.
    """
    try:
        if spec.source.endswith(_NPY):
            group, array = None, open_npy(spec.source, patience_s=patience_s)
        else:
            group = open_zarr(spec.source, patience_s=patience_s)
            images = partial(_images, group, spec)
            array = from_zarr(spec.source, images, patience_s=patience_s)
    except AtlasError:
        raise
    except FileNotFoundError as error:
        raise ImageError(
            f"no array at {spec.shown_source!r}: give a .npy file or a .zarr folder"
        ) from error
    except Exception as error:  # whatever numpy and zarr stumble over in a broken file
        raise ImageError(
            f"the array {spec.shown_source!r} cannot be read: {one_line(error)}"
        ) from error
    count, *shape = _checked(array, spec.shown_source)
    beside = partial(_beside, spec.source, group, count=count, patience_s=patience_s)
    names = beside("ids", spec.ids)
    labels = beside("labels", spec.labels) or [""] * count
    if names is None:
        digits = len(str(max(count - 1, 0)))
        names = [f"row-{row:0{digits}d}" for row in range(count)]
    _require_distinct(names, spec)
    entries = [
        Entry(name, None if label in _NO_LABEL else label, row)
        for row, (name, label) in enumerate(zip(names, labels, strict=True))
    ]
    channels, height, width = shape
    member = None if group is None else array.path
    return ArrayListing(
        entries,
        _Rows(spec.source, member, patience_s),
        dtype=np.dtype(array.dtype),
        shape=(channels, height, width),
    )


def array_files(spec: ImagesSpec, *, patience_s: float) -> list[SourceFile]:
    """Finds the files of the array that `spec.source` names, and those with names and classes
    beside it: a folder on the local disk as it is, and of an object store what lies below.

    Errors as of `named_files`.
    """
    named = [name for name in (spec.ids, spec.labels) if name is not None]
    at = partial(file_at, patience_s=patience_s)
    beside = [file for name in [*_usual(spec.source), *named] if (file := at(name))]
    if not is_url(spec.source):
        return [Path(spec.source), *beside]
    bucket, key = open_bucket(spec.source, patience_s=patience_s)
    if spec.source.endswith(_NPY):
        file = bucket.file(key)
        return beside if file is None else [file, *beside]
    return [*bucket.below(key), *beside]


def _usual(source: str, *keys: str) -> list[str]:
    """The files, there or not, in which the array's `ids` and `labels` are looked for."""
    stem = posixpath.splitext(source.rstrip("/"))[0]
    return [f"{stem}.{key}{suffix}" for key in keys or _MEMBERS for suffix in _BESIDE]


class _Rows:
    """Reads single images; of a Zarr array keeps the rows of the chunks read last."""

    def __init__(self, source: str, member: str | None, patience_s: float) -> None:
        """Takes a `.npy` file, or a Zarr folder with the array's path in it."""
        self._source, self._member, self._patience_s = source, member, patience_s
        self._array: _Array = None
        self._start = -1
        self._block: NDArray[Any] | None = None

    def __reduce__(self) -> tuple[type[_Rows], tuple[str, str | None, float]]:
        return _Rows, (self._source, self._member, self._patience_s)

    def __call__(self, entry: Entry) -> bytes:
        """Gives one image as a `.npy` file; OSError where it cannot be read, InfrastructureError
        where an object store gives no answer."""
        try:
            if self._array is None:
                with still_there(shown(self._source)):
                    self._array = self._opened()
            at_once = int(self._array.chunks[0]) if isinstance(self._array, zarr.Array) else 1
            start = entry.row - entry.row % at_once
            if self._block is None or start != self._start:
                rows = slice(start, start + at_once)
                self._block = read_rows(
                    self._array, self._source, rows, patience_s=self._patience_s
                )
                self._start = start
        except InfrastructureError:
            raise
        except Exception as error:  # whatever a codec stumbles over in a broken chunk
            raise OSError(one_line(error)) from error
        stream = io.BytesIO()
        row = self._block[entry.row - start]
        np.save(stream, np.ascontiguousarray(row), allow_pickle=False)
        return stream.getvalue()

    def _opened(self) -> _Array:
        if self._member is None:
            return open_npy(self._source, patience_s=self._patience_s)
        return open_zarr(self._source, self._member, patience_s=self._patience_s)


def _images(group: Any, spec: ImagesSpec) -> _Array:
    """The array of images in a Zarr folder: itself, the one of that name, `images`, or the only one
    of four axes."""
    if isinstance(group, zarr.Array):
        return group
    arrays = dict(sorted(group.arrays()))
    if spec.column is not None:
        if spec.column not in arrays:
            raise ImageError(
                f"images.column {spec.column!r} is no array in {spec.shown_source!r}: "
                f"{nearest(spec.column, arrays, what='arrays')}"
            )
        return arrays[spec.column]
    of_images = [name for name, array in arrays.items() if len(array.shape) == len(_SHAPE.split())]
    if _IMAGES in of_images:
        return arrays[_IMAGES]
    if len(of_images) != 1:
        which = nearest("", of_images or arrays, what="arrays of four axes")
        raise ImageError(
            f"{spec.shown_source!r} has no single array {_SHAPE} ({which}): set images.column"
        )
    return arrays[of_images[0]]


def _checked(array: _Array, source: str) -> tuple[int, ...]:
    shape = tuple(array.shape)
    if len(shape) != len(_SHAPE.split()) or 0 in shape:
        hint = "; of one channel, array[:, None]" if len(shape) == 3 else ""
        raise ImageError(f"the array {source!r} is of shape {shape}: give {_SHAPE}{hint}")
    if np.dtype(array.dtype).kind not in "biuf":
        raise ImageError(f"the array {source!r} is of {array.dtype}: give numbers")
    if shape[3] <= 4 < shape[1]:
        raise ImageError(
            f"the array {source!r} is of shape {shape}, its channels last as it seems: give "
            f"{_SHAPE}, array.transpose(0, 3, 1, 2)"
        )
    return shape


def _beside(
    source: str, group: Any, key: str, given: str | None, *, count: int, patience_s: float
) -> list[str] | None:
    """Names or classes: those that the spec names, else those of a usual name; None where there
    are none."""
    where, texts = given or "", None
    if isinstance(group, zarr.Group):
        read = partial(from_zarr, source, patience_s=patience_s)
        arrays: Any = read(lambda: dict(group.arrays()))
        member = next((m for m in ([given] if given else _MEMBERS[key]) if m in arrays), None)
        if member is not None:
            values: Any = read(lambda: arrays[member][:])
            where, texts = member, _texts(values.tolist())
    if texts is None:
        named = [given] if given else _usual(source, key)
        at = partial(file_at, patience_s=patience_s)
        file = next(filter(None, map(at, named)), None)
        if file is None:
            if given is None:
                return None
            raise ImageError(f"images.{key}: there is no {shown(given)!r}: {_GIVE}")
        where, texts = str(file), _of_file(file, key)
    if len(texts) != count:
        raise ImageError(
            f"images.{key}: {where!r} holds {len(texts)} for {count} images: give one an image"
        )
    return texts


def _of_file(file: SourceFile, key: str) -> list[str]:
    try:
        data = file.read_bytes()
        if file.suffix == _NPY:
            return _texts(np.load(io.BytesIO(data)).tolist())
        text = data.decode("utf-8-sig")
        if file.suffix == ".json":
            values = parse(text)
            if not isinstance(values, list):
                raise ImageError(f"images.{key}: {str(file)!r} holds no list: give one")
            return _texts(values)
        return [line.strip() for line in text.splitlines()]
    except (OSError, ValueError) as error:
        raise ImageError(
            f"images.{key}: {str(file)!r} cannot be read ({one_line(error)}): {_GIVE}"
        ) from error


def _texts(values: Sequence[object]) -> list[str]:
    return [
        "" if value is None else value.decode() if isinstance(value, bytes) else str(value)
        for value in values
    ]


def _require_distinct(names: Sequence[str], spec: ImagesSpec) -> None:
    if len(set(names)) < len(names):
        twice = next(name for n, name in enumerate(names) if name in names[:n])
        raise ImageError(
            f"two images of {spec.shown_source!r} are called {twice!r}: give ids that differ"
        )
