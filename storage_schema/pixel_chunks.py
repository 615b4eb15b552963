"""Chunks of pixels, written and read.

A chunk of a folder is mapped into memory where it lies. One of another store is first brought to
this machine, once for all processes on it, into the folder for temporary files. Both are then the
system's to keep in memory or to let go.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
from numpy.typing import NDArray
from obstore.store import MemoryStore

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.wording import REPAIR

CACHE = "CIRCUIT_ATLAS_CACHE"
"""The environment's variable that names the folder of chunks from other stores."""
# Chunks that stay mapped. Mapping one anew takes microseconds, and such a mapping is counted as a
# process' own memory where a limit is set on that.
_MAPPED = 4
# Of what the disk of that folder has free, so much is left to others.
_KEPT_FREE = 0.1


def checksum(values: NDArray[Any]) -> int:
    """Compute the CRC-32C of an image's values: it costs a tenth of what a SHA-256 does, and who
    reads pixels compares it for every image."""
    return int(google_crc32c.value(values.tobytes()))


def put_chunk(objects: Objects, images: NDArray[Any]) -> StoredObject:
    """Write the values of some images, (images, channels, height, width); WriteError where the
    store refuses."""
    data = images.reshape(-1).view(np.uint8).data
    digest = sha256(data)
    objects.put_if_absent(layout.pixels(digest), data)
    return StoredObject(layout.pixels(digest), len(data), digest)


class PixelChunks:
    """Reads the pixels of an atlas' images. Each image is held against its checksum whenever it is
    asked for. Safe to share between threads."""

    def __init__(self, objects: Objects, record: PixelsRecord) -> None:
        """Reads nothing yet."""
        self._objects, self._record = objects, record
        self._chunks: OrderedDict[int, NDArray[Any]] = OrderedDict()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1)
        self._coming: dict[int, Future[Path | bytes]] = {}

    def values(self, place: int, crc32c: int) -> NDArray[Any]:
        """Return the values of an image from its whole chunk, which stays at hand.

        Raises:
            CorruptError: they are missing, or another's.
            StoreError: the store cannot be read.
        """
        number, row = divmod(place, self._record.chunk_images)
        chunk = self._chunk(number)
        if row >= len(chunk):
            raise self._altered(place)
        values: NDArray[Any] = chunk[row]
        self._require(values, place, crc32c)
        return values

    def one(self, place: int, crc32c: int) -> NDArray[Any]:
        """Do the same for who wants few images: of a store elsewhere, no more is read."""
        if self._at_hand or not self._objects.sends_ranges:
            return self.values(place, crc32c)
        chunk, row = divmod(place, self._record.chunk_images)
        form = self._record.form
        path = self._stored(chunk).path
        try:
            (data,) = self._objects.get_ranges(path, [(row * form.size_bytes, form.size_bytes)])
        except FileNotFoundError as error:
            raise self._gone(chunk) from error
        if len(data) != form.size_bytes:
            raise self._altered(place)
        values = np.frombuffer(data, form.dtype).reshape(form.shape)
        self._require(values, place, crc32c)
        return values

    @property
    def _in_memory(self) -> bool:
        return isinstance(self._objects.store, MemoryStore)

    @property
    def _at_hand(self) -> bool:
        return self._in_memory or self._objects.file("") is not None

    def _chunk(self, number: int) -> NDArray[Any]:
        with self._lock:
            if number in self._chunks:
                self._chunks.move_to_end(number)
                return self._chunks[number]
        stored, form = self._stored(number), self._record.form
        try:
            held = self._held(number)
            # Where this machine's disk is full, chunks are in memory: one at a time.
            self._let_go(_MAPPED if isinstance(held, Path) or self._in_memory else 1)
            if isinstance(held, Path):
                # Not read-only, which torch would remark on; what is written goes nowhere.
                flat: NDArray[Any] = np.asarray(np.memmap(held, np.uint8, "c"))
            else:
                flat = np.frombuffer(bytearray(held), np.uint8)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError) as error:
            raise self._gone(number) from error  # an empty file cannot be mapped
        except OSError as error:
            raise self._objects.read_error(stored.path, error) from error
        if len(flat) != stored.size_bytes or len(flat) % form.size_bytes:
            raise CorruptError(
                f"{self._objects.at(stored.path)} has {len(flat)} bytes in place of "
                f"{stored.size_bytes}, of images of {form.size_bytes}: it is cut or altered; "
                f"{REPAIR}"
            )
        chunk = flat.view(form.dtype).reshape(-1, *form.shape)
        with self._lock:
            self._chunks[number] = chunk
        return chunk

    def _let_go(self, most: int) -> None:
        """Makes room for one more chunk where there may be so many."""
        with self._lock:
            while len(self._chunks) >= most:
                self._chunks.popitem(last=False)

    def _held(self, number: int) -> Path | bytes:
        """A chunk's file, or its bytes. Of a store elsewhere, the one after it is asked for too:
        images are mostly read in their order."""
        stored = self._stored(number)
        path = self._objects.file(stored.path)
        if path is not None:
            return path
        if self._in_memory:
            return self._objects.get(stored.path)
        coming = self._coming.pop(number, None)
        after = number + 1
        if after < len(self._record.chunks) and after not in self._chunks:
            self._coming[after] = self._pool.submit(_brought, self._objects, self._stored(after))
        return _brought(self._objects, stored) if coming is None else coming.result()

    def _stored(self, number: int) -> StoredObject:
        if not 0 <= number < len(self._record.chunks):
            raise CorruptError(
                f"{self._objects.at(layout.IMAGES_RECORD)} names {len(self._record.chunks)} chunks "
                f"of pixels, and an image lies in number {number}: {REPAIR}"
            )
        return self._record.chunks[number]

    def _gone(self, number: int) -> CorruptError:
        path = self._objects.at(self._stored(number).path)
        return CorruptError(f"{path} is missing: {REPAIR}")

    def _require(self, values: NDArray[Any], place: int, crc32c: int) -> None:
        if checksum(values) != crc32c:
            raise self._altered(place)

    def _altered(self, place: int) -> CorruptError:
        path = self._stored(place // self._record.chunk_images).path
        return CorruptError(
            f"{self._objects.at(path)} holds other pixels than were prepared: it is cut or "
            f"altered; {REPAIR}"
        )


def _brought(objects: Objects, stored: StoredObject) -> Path | bytes:
    """A chunk's file on this machine, or its bytes where the disk has no room for it."""
    folder = Path(os.environ.get(CACHE) or tempfile.gettempdir(), f"circuit-atlas-{os.getuid()}")
    path = folder / stored.sha256
    with contextlib.suppress(OSError):
        if path.stat().st_size == stored.size_bytes:
            os.utime(path)
            return path
    data = objects.get(stored.path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_room(folder, len(data))
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            file.write(data)
        os.replace(file.name, path)
    except OSError:
        return data
    return path


def _make_room(folder: Path, size_bytes: int) -> None:
    """Lets go of the chunks that were brought longest ago, until there is room for one more."""
    for path in sorted(folder.iterdir(), key=_time):
        disk = os.statvfs(folder)
        if disk.f_bavail * disk.f_frsize - size_bytes > _KEPT_FREE * disk.f_blocks * disk.f_frsize:
            return
        if not path.name.startswith(".") or time.time() - _time(path) > 3600:
            path.unlink(missing_ok=True)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
