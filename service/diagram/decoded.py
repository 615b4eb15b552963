"""An image of an atlas, unpacked with a bound: a file is what whoever wrote the atlas made it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.wording import one_line

if TYPE_CHECKING:
    from PIL import Image

Kind = Literal["jpeg", "png"]
MOST_PIXELS = 2**24


def opened(data: bytes, kind: Kind) -> Image.Image:
    """Read what an image is; its pixels are unpacked when they are asked for.

    CorruptError where it is none of that kind, or is larger than any that a network sees: whoever
    shows it unpacks it, however few bytes it is packed into.
    """
    from PIL import Image  # here alone is it looked into

    try:
        image = Image.open(io.BytesIO(data), formats=[kind])
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CorruptError(
            f"an image of the atlas is no {kind.upper()} ({one_line(error)}): restore the atlas "
            "from a copy"
        ) from error
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise CorruptError(
            f"an image of the atlas has {width} x {height} pixels, and {MOST_PIXELS:,} in all are "
            "drawn at most: restore the atlas from a copy"
        )
    return image


def decoded(data: bytes, kind: Kind) -> Image.Image:
    """Unpack an image into red, green and blue; CorruptError as `opened`, or where it is cut."""
    image = opened(data, kind)
    try:
        return image.convert("RGB")
    except (OSError, ValueError, SyntaxError) as error:
        raise CorruptError(
            f"an image of the atlas cannot be unpacked ({one_line(error)}): restore the atlas "
            "from a copy"
        ) from error
