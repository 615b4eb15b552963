"""The table of the image set, and the columns by which others point to an image or a box in it."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from circuit_atlas.storage_schema.columns import Column, completed
from circuit_atlas.storage_schema.parquet_rows import column_names
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.version import PIXELS_SINCE

IMAGE_ID = Column(
    "image",
    pa.int32(),
    "image id",
    "Image",
    "The image: `id` of the images table.",
    least=0,
    numbers="image",
)
BOX = (
    Column(
        "position_y",
        pa.int32(),
        "positions",
        "Largest output, row",
        "Row of that maximum in the output.",
        least=0,
    ),
    Column(
        "position_x",
        pa.int32(),
        "positions",
        "Largest output, column",
        "Column of that maximum in the output.",
        least=0,
    ),
    Column(
        "box_top",
        pa.int32(),
        "input pixels",
        "Box, top",
        "Top of the maximum's receptive field.",
        least=0,
    ),
    Column(
        "box_left", pa.int32(), "input pixels", "Box, left", "Left of the receptive field.", least=0
    ),
    Column(
        "box_bottom", pa.int32(), "input pixels", "Box, bottom", "Bottom of it, exclusive.", least=0
    ),
    Column(
        "box_right", pa.int32(), "input pixels", "Box, right", "Right of it, exclusive.", least=0
    ),
)

IMAGES = Table(
    "images",
    "The image set, one row an image, those left out included.",
    (
        Column(
            "id",
            pa.int32(),
            "image id",
            "Image",
            "Number of the image: its row in this table.",
            least=0,
        ),
        Column(
            "name", pa.string(), "", "Name", "File name within the folder, or row of the table."
        ),
        Column("label", pa.string(), "", "Label", "Class of the image.", null="No label is known."),
        Column(
            "split",
            pa.string(),
            "",
            "Split",
            "`scoring`, `held_out` or `left_out`.",
            among=("scoring", "held_out", "left_out"),
        ),
        Column("sha256", pa.string(), "hex", "SHA-256", "SHA-256 of the encoded image as found."),
        Column(
            "width",
            pa.int32(),
            "pixels",
            "Width",
            "Width as found.",
            null="It could not be read.",
            least=1,
        ),
        Column(
            "height",
            pa.int32(),
            "pixels",
            "Height",
            "Height as found.",
            null="It could not be read.",
            least=1,
        ),
        Column(
            "mode",
            pa.string(),
            "",
            "Mode",
            "Pillow's mode as found; of an array, the type of its numbers.",
            null="It could not be read.",
        ),
        Column(
            "problem", pa.string(), "", "Problem", "Why the image is left out.", null="It is used."
        ),
        Column(
            "place",
            pa.int32(),
            "",
            "Place",
            "Where its pixels are stored: in the chunk of that number divided by the images a "
            "chunk, at the remainder.",
            null="The atlas is of a schema before 4.",
            since=PIXELS_SINCE,
            least=0,
        ),
        Column(
            "pixels_crc32c",
            pa.int64(),
            "",
            "Checksum of the pixels",
            "CRC-32C of the pixels as they are stored.",
            null="The image is left out, or the atlas is of a schema before 4.",
            since=PIXELS_SINCE,
            least=0,
            most=2**32 - 1,
        ),
    ),
    numbered="id",
)

FILE = Column(
    "file",
    pa.binary(),
    "JPEG",
    "File",
    "The image as the network sees it, to look at: resized and cropped, before normalisation; "
    "channels that are no colours as the grey of their mean.",
    null="The image is left out.",
    stored_as="picture",
)
"""The column of an image's JPEG, which atlases before schema 4 have stored."""

IMAGES_WITH_FILES = Table(
    IMAGES.name,
    IMAGES.sentence,
    (*(column for column in IMAGES.columns if column.since < PIXELS_SINCE), FILE),
    numbered="id",
)
"""The table of the image set in atlases before schema 4."""


def read(
    data: bytes, *, columns: Sequence[str] | None, location: str, digest: str | None = None
) -> pa.Table:
    """Read the stored table, of an atlas of any schema, all columns or some, under their public
    names; `digest` and CorruptError as of `Table.from_parquet`."""
    table = IMAGES_WITH_FILES if has_files(data) else IMAGES
    names = [column.name for column in IMAGES.columns] if columns is None else list(columns)
    known = {column.name for column in table.columns}
    rows = table.from_parquet(
        data,
        location=location,
        columns=table.stored_names([name for name in names if name in known]),
        digest=digest,
    )
    wanted = [column for column in IMAGES.columns if column.name in names]
    return IMAGES.public(completed(rows, [column.field(column.stored_name) for column in wanted]))


def has_files(data: bytes) -> bool:
    """Tell whether a stored table has the images' JPEGs, as those before schema 4."""
    return FILE.stored_name in column_names(data)


def files(data: bytes, *, location: str) -> pa.ChunkedArray:
    """Read the JPEGs of such a table, by id; CorruptError as in `read`."""
    table = IMAGES_WITH_FILES.from_parquet(data, location=location, columns=[FILE.stored_name])
    return table.column(0)
