"""Small images on one sheet: a page that shows a hundred asks for a few files, not a hundred."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from pydantic import Field

from circuit_atlas.service.diagram.decoded import decoded
from circuit_atlas.service.web.errors import NotFoundError
from circuit_atlas.service.web.image_set import Box
from circuit_atlas.service.web.parameters import Parameters
from circuit_atlas.service.web.thumbnail import checked
from circuit_atlas.storage_schema.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

COLUMNS = 8
"""Cells in a row."""
MARGIN = 4
"""Pixels around the image in a cell, which hold what is at its edge: scaling blurs cells into each
other there."""
MOST_CELLS = 64
_WIDEST = 320
_CELL = r"[0-9]{1,9}(:[0-9]{1,6}(,[0-9]{1,6}){3})?"
_QUALITY = 75


class SheetParameters(Parameters):
    """Lists what is shown, and how large."""

    cells: str = Field(
        description="Ids of images, with semicolons; with a colon, the part that is shown: top, "
        f"left, bottom, right, half-open, in pixels. At most {MOST_CELLS}.",
        pattern=rf"^{_CELL}(;{_CELL})*$",
        max_length=MOST_CELLS * 40,
        examples=["3;5:0,0,64,64"],
    )
    width: int = Field(description="Pixels that each is wide.", ge=16, le=_WIDEST)


class Cell(NamedTuple):
    """Names an image, and the part of it that is shown; None: all of it."""

    image: int
    box: Box | None


def cells_of(query: SheetParameters) -> list[Cell]:
    """Read what is listed; QueryError where that is too much."""
    found = []
    for text in query.cells.split(";"):
        image, _, box = text.partition(":")
        top, left, bottom, right = map(int, box.split(",")) if box else (0, 0, 0, 0)
        found.append(Cell(int(image), (top, left, bottom, right) if box else None))
    if len(found) > MOST_CELLS:
        raise QueryError(f"{len(found)} cells are too many: give up to {MOST_CELLS}")
    return found


def image_sheet(
    cells: list[Cell], *, width: int, height: int, file: Callable[[int], bytes]
) -> bytes:
    """Draw each cell's image, `width` x `height` with a margin around: cell n in column n % 8 of
    row n // 8. JPEG.

    Args:
        cells: what is shown.
        width: of each image, in pixels.
        height: likewise.
        file: gives an image's JPEG; NotFoundError for one that was left out, whose cell stays
            empty.

    Raises:
        QueryError: a box is empty or reaches beyond its image.
        CorruptError: a file holds no image.
    """
    from PIL import Image  # most who ask look at no image

    wide, high = width + 2 * MARGIN, height + 2 * MARGIN
    columns = min(COLUMNS, len(cells))
    sheet = Image.new("RGB", (columns * wide, -(-len(cells) // COLUMNS) * high))
    images = _images(cells, file)
    for number, (image, box) in enumerate(cells):
        if image not in images:
            continue
        part = images[image] if box is None else images[image].crop(checked(box, images[image]))
        at = (number % COLUMNS * wide, number // COLUMNS * high)
        sheet.paste(part.resize((wide, high)), at)
        sheet.paste(part.resize((width, height)), (at[0] + MARGIN, at[1] + MARGIN))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _images(cells: list[Cell], file: Callable[[int], bytes]) -> Mapping[int, Image.Image]:
    """Each image once, those left out aside."""
    found = {}
    for image in {cell.image for cell in cells}:
        try:
            found[image] = decoded(file(image), "jpeg")
        except NotFoundError:
            continue
    return found
