"""What is on record of a source's images while they are prepared: a document a chunk, and one more.

The chunks themselves are written and read by `pixel_chunks`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

from circuit_atlas.storage_schema import documents, layout
from circuit_atlas.storage_schema.bounds import Checksum32, Count, Sha256, UnitNumber
from circuit_atlas.storage_schema.commit import ONE, StoredObject
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own

_REMEDY = "delete it, and run the build again"


@dataclass(frozen=True)
class PreparedImage:
    """Says what one image was found to be."""

    sha256: Annotated[Sha256, "SHA-256 of its file."]
    width: Annotated[Count | None, "Width in pixels, as in the file; null where it is left out."]
    height: Annotated[Count | None, "Height likewise."]
    mode: Annotated[str | None, "Pillow's mode, or the type of an array's numbers; null likewise."]
    problem: Annotated[str | None, "Why it is left out; null where it is not."]
    pixels_crc32c: Annotated[Checksum32 | None, "CRC-32C of its values; null likewise."]


@dataclass(frozen=True)
class PreparedChunk:
    """Says what was found of the images of a chunk, and where their pixels lie."""

    images: Annotated[tuple[PreparedImage, ...], "The images, in the order of their places."]
    low: Annotated[
        tuple[float, ...], "Of each channel, what is shown as black; empty where none can be read."
    ]
    high: Annotated[tuple[float, ...], "The same of white."]
    objects: Annotated[tuple[StoredObject, ...], ONE, "The pixels."]
    source: Annotated[
        Sha256 | None, "The source, as in the path; null where an earlier version wrote it."
    ] = None
    chunk: Annotated[UnitNumber | None, "Its number; null likewise."] = None

    def to_json(self) -> str:
        """Return the document's text."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> PreparedChunk:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="record of images", remedy=_REMEDY)

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> PreparedChunk:
        """Do the same for what lies at a path; CorruptError where it is another chunk's."""
        found = cls.from_json(data, location=objects.at(path))
        if found.source is not None:
            own = layout.prepared_chunk(found.source, found.chunk or 0)
            require_own(objects, path, own, what="the record of others")
        return found

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        (stored,) = self.objects
        if stored.path != layout.pixels(stored.sha256):
            return f"names `{stored.path}`, which is no chunk of pixels"
        if len(self.low) != len(self.high):
            return f"has {len(self.low)} numbers of black and {len(self.high)} of white"
        return None


@dataclass(frozen=True)
class PreparedSource:
    """Says which set of images all of a source's are."""

    images_sha256: Annotated[Sha256, "Fingerprint of the set, as in the header."]
    passed_over: Annotated[
        dict[str, Count], "How many files of each suffix lie beside them and are taken for none."
    ]
    source: Annotated[
        Sha256 | None, "The source, as in the path; null where an earlier version wrote it."
    ] = None

    def to_json(self) -> str:
        """Return the document's text."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> PreparedSource:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(
            cls, text, location=location, what="record of a source", remedy=_REMEDY
        )

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> PreparedSource:
        """Do the same for what lies at a path; CorruptError where it is another source's."""
        found = cls.from_json(data, location=objects.at(path))
        if found.source is not None:
            own = layout.prepared_whole(found.source)
            require_own(objects, path, own, what="the record of another source")
        return found
