"""The tables of what all images do to a layer's units, where units have images of their own."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import UNIT, Column
from circuit_atlas.storage_schema.image_table import IMAGE_ID
from circuit_atlas.storage_schema.table import Table

STEPS = 40
"""Steps of a histogram of responses."""
_OUTPUT = "of the layer's output"

CHUNK = Table(
    "response_chunk",
    "What each image of a chunk does to some units of a layer, a row an image.",
    (
        IMAGE_ID,
        Column(
            "responses",
            pa.list_(pa.float32()),
            _OUTPUT,
            "Responses",
            "r(y) of each unit.",
            finite=False,
        ),
        Column(
            "positions",
            pa.list_(pa.int32()),
            "positions",
            "Positions",
            "Of each unit, where its output is largest: row times the layer's width, plus column.",
            least=0,
        ),
    ),
    stored_as="<chunk>-<sha256>",
    once=(("image",),),
)


def _top(split: str, what: str) -> tuple[Column, ...]:
    """The columns of a unit's top images of one split."""
    return (
        Column(
            f"{split}_images",
            pa.list_(pa.int32()),
            "image id",
            f"Top {what} images",
            f"The {what} images with the largest response, best first, ties by number.",
            least=0,
            numbers="image",
        ),
        Column(
            f"{split}_responses",
            pa.list_(pa.float32()),
            _OUTPUT,
            "Responses",
            "r(y) on each.",
            finite=False,
        ),
        Column(
            f"{split}_positions",
            pa.list_(pa.int32()),
            "positions",
            "Positions",
            "Where the output is largest on each, as in a chunk.",
            least=0,
        ),
    )


DISTRIBUTIONS = Table(
    "distributions",
    "What all images that can be used do to some units of a layer, a row a unit. An image on which "
    "the response is NaN or infinite comes before all others, and counts in nothing else.",
    (
        UNIT,
        Column(
            "images",
            pa.int32(),
            "images",
            "Images",
            "Images that are counted, of all splits.",
            least=0,
        ),
        Column("mean", pa.float64(), _OUTPUT, "Mean", "Mean of r(y) over them.", null="No image."),
        Column(
            "sd",
            pa.float64(),
            _OUTPUT,
            "Standard deviation",
            "Standard deviation of r(y) over them.",
            null="No image.",
            least=0,
        ),
        Column("low", pa.float64(), _OUTPUT, "Smallest", "The smallest r(y).", null="No image."),
        Column("high", pa.float64(), _OUTPUT, "Largest", "The largest r(y).", null="No image."),
        Column(
            "counts",
            pa.list_(pa.int32()),
            "images",
            "Counts",
            "Images in each of as many equal steps from the smallest r(y) to the largest.",
            least=0,
        ),
        *_top("scoring", "scoring"),
        *_top("held_out", "held-out"),
    ),
    stored_as="<units>",
    once=(("unit",),),
    ascending="unit",
)

RESPONSE_TABLES: tuple[Table, ...] = (CHUNK, DISTRIBUTIONS)
