"""The images of an atlas, read: their table, where their pixels lie, and what they look like."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import pyarrow as pa

from circuit_atlas.storage_schema import image_table, layout
from circuit_atlas.storage_schema.commit import NamedObjects
from circuit_atlas.storage_schema.documents import sha256
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import PixelChunks
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.wording import REPAIR


class StoredImages:
    """Reads the images of an atlas of any schema, and keeps what never changes."""

    def __init__(self, objects: Objects, schema: int, get: Callable[[str], bytes]) -> None:
        """Read nothing yet.

        Args:
            objects: the store.
            schema: version of the atlas.
            get: returns the bytes of an object that every atlas has, CorruptError where it has not.
        """
        self._objects, self._schema, self._get = objects, schema, get
        self._images: bytes | None = None
        self._digest: str | None = None
        self._record: bytes | None = None
        self._pixels: PixelsRecord | None = None
        self._chunks: PixelChunks | None = None

    def table(self, *, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the images table, all columns or some; CorruptError where it is missing or
        altered."""
        stored = self._stored_table()
        return image_table.read(
            stored,
            columns=columns,
            location=self._objects.at(layout.IMAGES),
            digest=self._digest,
        )

    def count(self) -> int | None:
        """Count the images; None where their table is missing or altered."""
        try:
            return self.table(columns=["id"]).num_rows
        except CorruptError:
            return None

    def _stored_table(self) -> bytes:
        if self._images is None:
            data = self._get(layout.IMAGES)
            record, location = self._stored_record(), self._objects.at(layout.IMAGES_RECORD)
            digest = sha256(data)
            if digest != _table_checksum(record, location=location):
                raise CorruptError(f"{self._objects.at(layout.IMAGES)} is cut or altered: {REPAIR}")
            self._images, self._digest = data, digest
        return self._images

    def _stored_record(self) -> bytes:
        if self._record is None:
            self._record = self._get(layout.IMAGES_RECORD)
        return self._record

    def pixels(self) -> PixelsRecord:
        """Return where the images' pixels lie, and what they are.

        Raises:
            QueryError: the atlas is of a schema before 4, and has a JPEG of each image alone.
            CorruptError: the record is missing or altered.
        """
        if image_table.has_files(self._stored_table()):
            raise QueryError(
                f"the atlas at {self._objects.location} is of schema {self._schema} and has "
                "no pixels of its images: build it anew"
            )
        if self._pixels is None:
            location = self._objects.at(layout.IMAGES_RECORD)
            self._pixels = PixelsRecord.from_json(self._stored_record(), location=location)
        return self._pixels

    def jpegs(self, images: Iterable[int]) -> dict[int, bytes | None]:
        """Return some images as the network sees them, JPEG; None for those that were left out.

        CorruptError where one is missing or altered.
        """
        wanted, stored = sorted(set(images)), self._stored_table()
        if image_table.has_files(stored):
            files = image_table.files(stored, location=self._objects.at(layout.IMAGES))
            return {image: files[image].as_py() for image in wanted}
        record, table = self.pixels(), self.table(columns=["place", "pixels_crc32c"])
        if self._chunks is None:
            self._chunks = PixelChunks(self._objects, record)
        found: dict[int, bytes | None] = {}
        for image in wanted:
            crc32c = table["pixels_crc32c"][image].as_py()
            place = table["place"][image].as_py()
            found[image] = None if crc32c is None else record.jpeg(self._chunks.one(place, crc32c))
        return found


def _table_checksum(record: bytes, *, location: str) -> str:
    """Return the SHA-256 that the record of images has of their table; CorruptError where it is
    altered, or no such record."""
    for stored in NamedObjects.from_json(record, location=location).objects:
        if stored.path == layout.IMAGES:
            return stored.sha256
    raise CorruptError(f"{location} names no {layout.IMAGES}: {REPAIR}")
