"""The tables of a layer's network: its directions, weights and channels."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.image_table import BOX, IMAGE_ID
from circuit_atlas.storage_schema.table import Table

_CONVOLUTION = Column(
    "convolution", pa.string(), "", "Convolution", "Name of the convolution, as in the index."
)

WEIGHTS = Table(
    "weights",
    "The weights of a layer's network, one row a convolution in the order of the index.",
    (
        _CONVOLUTION,
        Column("out_channels", pa.int32(), "channels", "Output channels", "First axis.", least=1),
        Column(
            "in_channels",
            pa.int32(),
            "channels",
            "Input channels",
            "Second axis: channels of one group.",
            least=1,
        ),
        Column(
            "height",
            pa.int32(),
            "pixels",
            "Height",
            "Third axis, of the convolution's input.",
            least=1,
        ),
        Column("width", pa.int32(), "pixels", "Width", "Fourth axis.", least=1),
        Column(
            "values",
            pa.list_(pa.float32()),
            "",
            "Weights",
            "The weights, the last axis fastest.",
            null="They are unknown.",
        ),
    ),
    once=(("convolution",),),
)

DIRECTIONS = Table(
    "directions",
    "The directions of a layer that came from a file, one row a unit, in the order of the units.",
    (
        Column("bias", pa.float32(), "of the output", "Bias", "What is added to the sum."),
        Column(
            "values",
            pa.list_(pa.float32()),
            "",
            "Weights",
            "The weight of each channel of the layer.",
        ),
    ),
)

CHANNELS = Table(
    "channels",
    "Where each output channel of each convolution of a layer's network is largest, over the "
    "scoring images and before the activation function. Boxes are half-open.",
    (
        _CONVOLUTION,
        Column("channel", pa.int32(), "", "Channel", "Output channel.", least=0),
        Column(
            "rank",
            pa.int16(),
            "",
            "Rank",
            "Rank by `maximum` among the images, from 0; at most 3.",
            least=0,
        ),
        IMAGE_ID,
        Column(
            "maximum",
            pa.float64(),
            "of the output",
            "Largest output",
            "Largest value over positions.",
        ),
        *BOX,
    ),
    once=(("convolution", "channel", "rank"),),
)

NETWORK: tuple[Table, ...] = (DIRECTIONS, WEIGHTS, CHANNELS)
