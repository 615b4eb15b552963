"""The images' pixels as they are stored: how chunks are laid out, and what values look like.

A chunk is the bytes of some images one after the other, C order and little-endian, each of the same
size: so it can be mapped into memory, and one image of it read alone. It lies under its SHA-256:
whoever prepares the same images again finds it there.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.commit import StoredObject
from circuit_atlas.storage_schema.documents import unseal
from circuit_atlas.storage_schema.errors import CorruptError

CHUNK_IMAGES = 64
_JPEG_QUALITY = 85


@dataclass(frozen=True)
class PixelForm:
    """Says what the stored values of an image are."""

    dtype: Annotated[str, "Type of the values, as numpy names it."]
    shape: Annotated[tuple[int, int, int], "Of one image: channels, height, width."]
    opacity: Annotated[bool, "Whether the last channel is an opacity."]
    divisor: Annotated[
        float, "What values are divided by before mean and std: 255 of 8 bits, 65535 of 16, or 1."
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
        return int(np.dtype(self.dtype).itemsize * np.prod(self.shape))

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> PixelForm:
        """Make one from a document's keys; KeyError or TypeError where they are those of none."""
        channels, height, width = content["shape"]
        form = cls(
            content["dtype"], (channels, height, width), content["opacity"], content["divisor"]
        )
        np.dtype(form.dtype)
        return form


@dataclass(frozen=True)
class PixelsRecord:
    """Names the chunks of an atlas' images, and says how values are shown."""

    form: Annotated[PixelForm, "What the values of each image are."]
    low: Annotated[tuple[float, ...], "Of each channel, what is shown as black, once divided."]
    high: Annotated[tuple[float, ...], "The same of white."]
    chunk_images: Annotated[int, "Images a chunk; the last may have fewer."]
    chunks: Annotated[tuple[StoredObject, ...], "The chunks, in order."]

    def content(self) -> dict[str, Any]:
        """Return the document's keys, those of the chunks aside."""
        content = asdict(self)
        del content["chunks"]
        return content

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> PixelsRecord:
        """Read the record in `images.json`; CorruptError or SchemaError where there is none."""
        content = unseal(text, location=location)
        try:
            pixels = content["pixels"]
            named = (StoredObject.of(stored) for stored in content["objects"])
            return cls(
                PixelForm.of(pixels["form"]),
                tuple(pixels["low"]),
                tuple(pixels["high"]),
                pixels["chunk_images"],
                tuple(stored for stored in named if stored.path.startswith("prepared/")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{location} describes no pixels: {error!r}") from error

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
