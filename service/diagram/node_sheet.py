"""The images of all nodes of a drawing on one sheet, small: one file, where each would be one."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Literal

from circuit_atlas.service.diagram.data import Content, Crop
from circuit_atlas.service.diagram.decoded import decoded
from circuit_atlas.service.diagram.node_images import NodeImages, used_images
from circuit_atlas.storage_schema.errors import QueryError

if TYPE_CHECKING:
    from PIL import Image

Shows = Literal["features", "crops"]
COLUMNS = 16
"""Cells in a row."""
CELL = 48
"""Pixels of a cell's side: as large as a node is where a drawing is seen whole."""
MOST_NODES = 400
"""Nodes on a sheet, at most; a page asks for the images of more singly, as they come into sight."""
_LEAST = 1 / 12  # of the image's side, that a crop is wide
_ROUND = 1.08  # times its field, that a crop is wide
_QUALITY = 60  # visualizations are noise, and nodes a few millimetres wide
_THREADS = 8


def node_sheet(content: Content, node_images: NodeImages, shows: Shows) -> bytes:
    """Draw the image of each node into a cell: node n into column n % 16 of row n // 16. JPEG.

    Args:
        content: the drawing.
        node_images: where its images are.
        shows: `features`: the visualization of a node, or where there is none its best crop;
            `crops`: the best crop. A node that has neither has an empty cell.

    Raises:
        QueryError: the drawing has more than 400 nodes.
        CorruptError: an image cannot be read.
    """
    from PIL import Image  # most who draw look at no pixel

    nodes = len(content.nodes.band)
    if nodes > MOST_NODES:
        raise QueryError(
            f"the drawing has {nodes} nodes, and a sheet holds the images of {MOST_NODES}: "
            "draw fewer kernels"
        )
    featured = sorted(node_images.features) if shows == "features" else []
    rows = max(1, -(-nodes // COLUMNS))
    sheet = Image.new("RGB", (COLUMNS * CELL, rows * CELL))
    photos = {
        image: decoded(data, "jpeg")
        for image, data in node_images.jpegs(used_images(content, most=1)).items()
    }
    for node, crops in enumerate(content.nodes.crops):
        if node not in featured and crops and crops[0][0] in photos:
            photo = photos[crops[0][0]]
            _place(sheet, node, photo, _box(crops[0], *photo.size))
    with ThreadPoolExecutor(_THREADS) as pool:  # object stores and servers answer late
        for node, png in zip(featured, pool.map(node_images.png, featured), strict=True):
            image = decoded(png, "png")
            _place(sheet, node, image, (0, 0, *image.size))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=_QUALITY)
    return stream.getvalue()


def _place(
    sheet: Image.Image, node: int, image: Image.Image, box: tuple[float, float, float, float]
) -> None:
    small = image.resize((CELL, CELL), box=box)
    sheet.paste(small, (node % COLUMNS * CELL, node // COLUMNS * CELL))


def _box(crop: Crop, width: int, height: int) -> tuple[float, float, float, float]:
    """The square that a page shows of a crop, as left, top, right and bottom."""
    _, top, left, bottom, right = crop
    least = min(width, height)
    side = min(least, max(least * _LEAST, _ROUND * max(bottom - top, right - left)))
    x = min(width - side, max(0.0, (left + right - side) / 2))
    y = min(height - side, max(0.0, (top + bottom - side) / 2))
    return x, y, x + side, y + side
