"""An image as small as a page shows it, in the place of the whole file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from pydantic import Field

from circuit_atlas.service.diagram.decoded import Kind, decoded
from circuit_atlas.service.web.image_set import Box
from circuit_atlas.service.web.parameters import Parameters
from circuit_atlas.service.web.responses import Body
from circuit_atlas.storage_schema.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

_NARROWEST, _WIDEST = 16, 1024
_QUALITY = 80
_BOX = r"^[0-9]{1,6}(,[0-9]{1,6}){3}$"


class ThumbnailParameters(Parameters):
    """Says how large an image is sent."""

    width: int | None = Field(
        default=None,
        description="Pixels that it is wide at most, then as JPEG. Where this is not given, or it "
        "is a JPEG that is no wider: the file itself.",
        ge=_NARROWEST,
        le=_WIDEST,
    )


class CropParameters(ThumbnailParameters):
    """Says how much of an image is sent, and how large."""

    box: str | None = Field(
        default=None,
        description="Only this part of it, as JPEG: top, left, bottom, right, half-open, in "
        "pixels, with commas.",
        pattern=_BOX,
        examples=["0,0,64,64"],
    )


def thumbnail(body: Body, kind: Kind, query: ThumbnailParameters) -> Body:
    """Make an image as large as it is asked for, of the file that holds it.

    Raises:
        QueryError: the box is empty or reaches beyond the image.
        CorruptError: the file holds no image.
    """
    box = query.box if isinstance(query, CropParameters) else None
    if query.width is None and box is None:
        return body
    image = decoded(body.content, kind)
    if box is not None:
        top, left, bottom, right = map(int, box.split(","))
        image = image.crop(checked((top, left, bottom, right), image))
    width = query.width or image.width
    if width >= image.width and box is None and kind == "jpeg":
        return body
    if width < image.width:
        image.thumbnail((width, image.height))
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=_QUALITY)
    name = body.filename and f"{body.filename.rpartition('.')[0]}.jpg"
    return Body(stream.getvalue(), "image/jpeg", name, inline=body.inline)


def checked(box: Box, image: Image.Image) -> tuple[int, int, int, int]:
    """Return a part of an image as left, top, right, bottom; QueryError where it is empty or
    reaches beyond the image."""
    top, left, bottom, right = box
    if not (left < right <= image.width and top < bottom <= image.height):
        raise QueryError(
            f"the box {top},{left},{bottom},{right} is no part of an image of {image.height} x "
            f"{image.width} pixels: give top, left, bottom, right, half-open"
        )
    return left, top, right, bottom
