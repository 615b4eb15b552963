"""The images' pixels as they are stored: how chunks are laid out, and what values look like.

A chunk is the bytes of some images one after the other, C order and little-endian, each of the same
size: so it can be mapped into memory, and one image of it read alone. It lies under its SHA-256:
whoever prepares the same images again finds it there.
"""

from __future__ import annotations

import io
import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from circuit_atlas.storage_schema import documents, layout
from circuit_atlas.storage_schema.bounds import Side
from circuit_atlas.storage_schema.commit import StoredObject

PixelType = Literal["bool", "uint8", "uint16", "float32"]
CHUNK_IMAGES = 64
_IMAGE_BYTES = 2**32
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class PixelForm:
    """Says what the stored values of an image are."""

    dtype: Annotated[PixelType, "Type of the values, as numpy names it."]
    shape: Annotated[tuple[Side, Side, Side], "Of one image: channels, height, width."]
    opacity: Annotated[bool, "Whether the last channel is an opacity."]
    divisor: Annotated[
        float,
        Meta(ge=1, le=2**16),
        "What values are divided by before mean and std: 255 of 8 bits, 65535 of 16, or 1.",
    ]

    @property
    def channels(self) -> int:
        """Return how many channels an image has."""
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of an image, in pixels."""
        return self.shape[1:]

    @property
    def size_bytes(self) -> int:
        """Return the size of one image, in bytes."""
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


@dataclass(frozen=True)
class PixelsRecord:
    """Names the chunks of an atlas' images, and says how values are shown."""

    form: Annotated[PixelForm, "What the values of each image are."]
    low: Annotated[tuple[float, ...], "Of each channel, what is shown as black, once divided."]
    high: Annotated[tuple[float, ...], "The same of white."]
    chunk_images: Annotated[Side, "Images a chunk; the last may have fewer."]
    chunks: tuple[StoredObject, ...] = ()
    """The chunks, in order; among the `objects` of the document."""

    def content(self) -> dict[str, Any]:
        """Return the document's keys, those of the chunks aside."""
        content = asdict(self)
        del content["chunks"]
        return content

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> PixelsRecord:
        """Read the record in `images.json`; CorruptError or SchemaError where there is none."""
        whole = documents.read(ImagesRecord, text, location=location, what="record of images")
        return replace(whole.pixels, chunks=whole.chunks)

    def shown(self, values: NDArray[Any]) -> NDArray[np.uint8]:
        """Show an image, (height, width, 3): what has an opacity over white; one channel as grey,
        three as red, green and blue, any others as the grey of their mean.
        """
        form, channels = self.form, np.moveaxis(values, 0, -1)
        low, high = np.array(self.low), np.array(self.high)
        # An even channel could be shown as grey just as well as black.
        extent = np.where(high > low, high - low, 1.0)
        levels = (channels / form.divisor - low) / extent
        if form.opacity:
            opacity = levels[..., -1:]
            levels = levels[..., :-1] * opacity + 1 - opacity
        if levels.shape[-1] not in (1, 3):
            levels = levels.mean(-1, keepdims=True)
        whole = np.rint(levels * 255).clip(0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(whole, (*whole.shape[:2], 3)))

    def jpeg(self, values: NDArray[Any]) -> bytes:
        """Encode an image to look at."""
        from PIL import Image  # most who read an atlas look at no image

        stream = io.BytesIO()
        Image.fromarray(self.shown(values)).save(stream, "JPEG", quality=_JPEG_QUALITY)
        return stream.getvalue()


@dataclass(frozen=True)
class ImagesRecord:
    """Names what an atlas has of its images: the document `images.json`."""

    objects: Annotated[tuple[StoredObject, ...], "`images.parquet`, and the chunks of pixels."]
    pixels: Annotated[PixelsRecord, "What the pixels are."]

    @property
    def chunks(self) -> tuple[StoredObject, ...]:
        """Return the chunks of pixels, in order."""
        return tuple(one for one in self.objects if one.path != layout.IMAGES)

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        image_bytes, channels = self.pixels.form.size_bytes, self.pixels.form.channels
        if image_bytes > _IMAGE_BYTES:
            return f"has images of {image_bytes:,} bytes: {_IMAGE_BYTES:,} at most can be read"
        if len(self.pixels.low) != channels or len(self.pixels.high) != channels:
            return f"has `low` and `high` of other than {channels} numbers, one a channel"
        for stored in self.chunks:
            if stored.path != layout.pixels(stored.sha256):
                return f"names `{stored.path}`, which is no chunk of pixels"
            images, rest = divmod(stored.size_bytes, image_bytes)
            if rest or not 1 <= images <= self.pixels.chunk_images:
                return f"has a chunk of {stored.size_bytes:,} bytes, {image_bytes:,} an image"
        return None
