"""The chunks of Zarr arrays, written and read one by one, by what an array is declared as.

Zarr opens the arrays by the metadata that `arrays.group` lays out. Here that metadata is not asked:
altered, it would make other numbers of the same bytes, or look for chunks under other names and
take their absence for the fill value. A chunk is only read because a commit record names it, held
against the digest that this record has of it, and only written under a name of its own.
"""

from __future__ import annotations

import math
from typing import Any

import google_crc32c
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.commit import Commit, StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.wording import REPAIR

COMPRESSION_LEVEL = 3
"""Of zstd, the first of the two codecs; the second puts a CRC-32C behind what it made."""

_CHECKSUM_BYTES = 4


class ChunkArray:
    """Reads and writes one array of a layer, a unit at a time. Safe to share between threads."""

    def __init__(self, objects: Objects, path: str, *, shape: tuple[int, ...], dtype: str) -> None:
        """Nothing is read yet: `shape` and `dtype` are the array's at `path`."""
        self._objects = objects
        self._path = path
        self._shape = shape[2:]
        self._dtype = np.dtype(dtype).newbyteorder("<")

    def path(self, unit: int, attempt: int) -> str:
        """Return the path of one unit's chunk, as Zarr names it."""
        return f"{self._path}/c.{unit}.{attempt}" + ".0" * len(self._shape)

    def write(self, unit: int, attempt: int, values: NDArray[Any]) -> StoredObject:
        """Write one unit's chunk, of the shape of a chunk; its record.

        ContestedError where another attempt has one there, WriteError where the store refuses.
        """
        flat = np.ascontiguousarray(values, self._dtype).data.cast("B")
        packed = pa.Codec("zstd", COMPRESSION_LEVEL).compress(flat, asbytes=True)
        data = packed + google_crc32c.value(packed).to_bytes(_CHECKSUM_BYTES, "little")
        path = self.path(unit, attempt)
        self._objects.put_new(path, data)
        return StoredObject(path, len(data), sha256(data))

    def read(self, commit: Commit) -> NDArray[Any]:
        """Return a unit's chunk; CorruptError where its commit record does not name it, or it is
        missing, cut, altered or another's."""
        path = self.path(commit.unit, commit.attempt)
        stored = commit.find(path)
        if stored is None:
            raise CorruptError(
                f"the commit record of {commit.key} names no {self._objects.at(path)}: {REPAIR}"
            )
        try:
            data = self._objects.get(path)
        except FileNotFoundError as error:
            raise CorruptError(
                f"{self._objects.at(path)} is committed and missing: {REPAIR}"
            ) from error
        if sha256(data) != stored.sha256:
            raise self._altered(commit.unit)
        size_bytes = self._dtype.itemsize * math.prod(self._shape)
        try:
            # Of that size and no other, whatever the data say of themselves.
            packed = memoryview(data)[:-_CHECKSUM_BYTES]
            unpacked = pa.Codec("zstd").decompress(packed, size_bytes)
        except (pa.ArrowException, OSError, ValueError) as error:
            raise self._altered(commit.unit) from error
        return np.frombuffer(unpacked, self._dtype).reshape(self._shape)

    def _altered(self, unit: int) -> CorruptError:
        location = self._objects.at(self._path)
        return CorruptError(f"unit {unit} of {location} is cut or altered: {REPAIR}")
