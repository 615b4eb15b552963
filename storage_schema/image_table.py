"""The table of the image set, and the columns by which others point to an image or a box in it."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.table import Table

IMAGE_ID = Column("image", pa.int32(), "image id", "Image", "The image: `id` of the images table.")
BOX = (
    Column(
        "position_y",
        pa.int32(),
        "positions",
        "Largest output, row",
        "Row of that maximum in the output.",
    ),
    Column(
        "position_x",
        pa.int32(),
        "positions",
        "Largest output, column",
        "Column of that maximum in the output.",
    ),
    Column(
        "box_top",
        pa.int32(),
        "input pixels",
        "Box, top",
        "Top of the maximum's receptive field.",
    ),
    Column("box_left", pa.int32(), "input pixels", "Box, left", "Left of the receptive field."),
    Column("box_bottom", pa.int32(), "input pixels", "Box, bottom", "Bottom of it, exclusive."),
    Column("box_right", pa.int32(), "input pixels", "Box, right", "Right of it, exclusive."),
)

IMAGES = Table(
    "images",
    "The image set, one row an image, those left out included.",
    (
        Column(
            "id", pa.int32(), "image id", "Image", "Number of the image: its row in this table."
        ),
        Column(
            "name", pa.string(), "", "Name", "File name within the folder, or row of the table."
        ),
        Column("label", pa.string(), "", "Label", "Class of the image.", null="No label is known."),
        Column("split", pa.string(), "", "Split", "`scoring`, `held_out` or `left_out`."),
        Column("sha256", pa.string(), "hex", "SHA-256", "SHA-256 of the encoded image as found."),
        Column(
            "width", pa.int32(), "pixels", "Width", "Width as found.", null="It could not be read."
        ),
        Column(
            "height",
            pa.int32(),
            "pixels",
            "Height",
            "Height as found.",
            null="It could not be read.",
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
            "file",
            pa.binary(),
            "JPEG",
            "File",
            "The image as the network sees it, to look at: resized and cropped, before "
            "normalisation; channels that are no colours as the grey of their mean.",
            null="The image is left out.",
            stored_as="picture",
        ),
    ),
)
