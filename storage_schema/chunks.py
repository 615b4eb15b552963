"""Zarr's view of the store: chunks are written once, and a missing one is an error.

Zarr reads a missing chunk as the fill value and overwrites a present one. Here a chunk is only
read because a commit record names it, and only written under a name of its own.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from obstore.store import ObjectStore
from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.errors import BaseZarrError

from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.wording import in_words

_METADATA = "zarr.json"


class ChunkStore(zarr.storage.ObjectStore[ObjectStore]):
    """Creates chunks and never replaces one; `written` lists what it wrote."""

    def __init__(
        self, objects: Objects, *, chunks: tuple[int, ...], read_only: bool = False
    ) -> None:
        """`chunks` is the shape of the arrays' chunks."""
        super().__init__(objects.store, read_only=read_only)
        self._objects = objects
        self._chunks = chunks
        self.written: list[StoredObject] = []

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """Do as Zarr's, but CorruptError where a chunk is missing, or is said to be of another
        shape.

        Whatever its key: by altered metadata Zarr would look for chunks under other names, and take
        their absence for the fill value. Newer versions repair a shape that cannot be.
        """
        assert byte_range is None, "a chunk is read whole"
        try:
            # In a thread: Zarr has this one alone, and a store may be waited for.
            chunk = await asyncio.to_thread(self._objects.get, key)
        except FileNotFoundError as error:
            if key.endswith(_METADATA):
                return None
            raise CorruptError(
                f"{self._objects.at(key)} is committed and missing: restore it from a copy, or "
                "delete the unit's commit record and build again"
            ) from error
        if key.endswith(_METADATA):
            self._check(key, chunk)
        return prototype.buffer.from_bytes(chunk)

    def _check(self, key: str, metadata: bytes) -> None:
        """CorruptError unless an array's metadata tells the shape of its chunks."""
        try:
            stored = json.loads(metadata)["chunk_grid"]["configuration"]["chunk_shape"]
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptError(
                f"{self._objects.at(key)} is altered: it tells no shape of chunks"
            ) from error
        if stored != list(self._chunks):
            raise CorruptError(
                f"{self._objects.at(key)} is altered: it has chunks of {stored}, and "
                f"{list(self._chunks)} was laid out"
            )

    async def set(self, key: str, value: Buffer) -> None:
        """Create an object; ContestedError where there is another, WriteError where the store
        refuses."""
        data = value.to_bytes()
        await asyncio.to_thread(self._objects.put_new, key, data)
        self.written.append(StoredObject(key, len(data), sha256(data)))


class ChunkArray:
    """Reads and writes one array of a layer, a unit at a time."""

    def __init__(
        self,
        objects: Objects,
        path: str,
        *,
        shape: tuple[int, ...],
        dtype: str,
        write: bool = False,
    ) -> None:
        """Open the array whose metadata lies at `path`; CorruptError where there is none, or one of
        another shape or type."""
        self._location = objects.at(path)
        chunks = (1, 1, *shape[2:])
        self._store = ChunkStore(objects, chunks=chunks, read_only=not write)
        try:
            array = zarr.open_array(
                self._store, path=path, mode="r+" if write else "r", zarr_format=3
            )
        except (FileNotFoundError, ValueError, KeyError, TypeError, BaseZarrError) as error:
            raise CorruptError(
                f"{objects.at(path)} is missing or altered: {in_words(error)}"
            ) from error
        if (array.shape, array.dtype) != (shape, np.dtype(dtype)):
            raise CorruptError(
                f"{objects.at(path)} is missing or altered: it has shape {array.shape} of "
                f"{array.dtype}, and {shape} of {dtype} was laid out"
            )
        # A chunk of nothing but the fill value is written too: a commit names every chunk.
        self._array: zarr.Array[Any] = array.with_config({"write_empty_chunks": True})

    def write(self, unit: int, attempt: int, values: NDArray[Any]) -> StoredObject:
        """Write one unit's chunk; its record. ContestedError where the attempt has another there,
        WriteError where the store refuses."""
        self._store.written.clear()
        self._array[unit, attempt] = values
        (stored,) = self._store.written
        return stored

    def read(self, unit: int, attempt: int) -> NDArray[Any]:
        """Return one unit's chunk; CorruptError where it is missing, cut or altered."""
        try:
            values = self._array[unit, attempt]
        except (ValueError, RuntimeError, IndexError) as error:
            raise CorruptError(
                f"unit {unit} of {self._location} is cut or altered: restore it from a copy, or "
                "delete the unit's commit record and build again"
            ) from error
        return np.asarray(values)
