"""Every Zarr array as data: axes, dtype, chunks, unit, and what the fill value means.

An array is laid out as metadata alone. Its `attempts` axis is as long as the numbers that a writer
draws from: each attempt at a unit writes chunks of its own names, so no chunk is ever written
twice, and the unit's commit record says which attempt counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from circuit_atlas.storage_schema import layer_paths, segments
from circuit_atlas.storage_schema.chunks import COMPRESSION_LEVEL
from circuit_atlas.storage_schema.grouping import MOST_GROUPS
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex

ATTEMPTS = 2**31 - 1

Per = Literal["criterion", "image criterion", "redrawn criterion", "grouped criterion", "unit"]

AXES: tuple[tuple[str, str], ...] = (
    ("units", "Units of the layer: channels, then directions."),
    ("attempts", "The number of the attempt that the unit's commit record names."),
    ("runs", "1, or a run a fraction where each has scores of its own (`force`)."),
    ("kernels", "Kernels that can reach any unit of the layer, see `kernels.KernelIndex`."),
    ("fractions", "The ladder of kept fractions, largest first."),
    ("kernel_bytes", "Eight kernels a byte, the first in the lowest bit."),
    ("groups", "Sub-feature groups of the unit, as many as there may be, the largest first."),
    ("top", "The unit's top images by rank; those past the commit's `top_images` are empty."),
    ("height", "Rows of the layer's output, in positions."),
    ("width", "Columns of the layer's output, in positions."),
)


@dataclass(frozen=True)
class ArraySpec:
    """Declares one kind of array.

    Attributes:
        name: folder in the layer's group; the criterion's name follows where there is one for each.
        axes: names from `AXES`. A chunk is one unit, one attempt, and the whole of the others.
        dtype: as numpy writes it.
        fill: the value of what was never written. A missing chunk never means "done".
        unit: of the values.
        sentence: what a value is.
        fill_meaning: what the fill value means within a chunk that was written.
        per: what there is one for: each criterion, each of those with scores of their own for each
            top image, each of those whose circuits were drawn anew, each of those whose circuits of
            groups are stored, or the unit.
    """

    name: str
    axes: tuple[str, ...]
    dtype: str
    fill: float
    unit: str
    sentence: str
    fill_meaning: str
    per: Per = "criterion"

    def criteria(self, header: AtlasHeader) -> tuple[str | None, ...]:
        """Return the criteria that have this array; None alone where it is the unit's."""
        if self.per == "unit":
            return (None,)
        if self.per == "redrawn criterion":
            return tuple(name for name, _ in header.redrawn)
        if self.per == "grouped criterion":
            return header.grouped
        return header.image_criteria if self.per == "image criterion" else header.criteria

    def shape(
        self, header: AtlasHeader, layer: LayerIndex, criterion: str | None
    ) -> tuple[int, ...]:
        """Return the length of each axis."""
        lengths = {
            "units": len(layer.units),
            "attempts": ATTEMPTS,
            "runs": 1 if criterion is None else header.runs(criterion),
            "kernels": layer.index.size,
            "fractions": len(header.fractions),
            "kernel_bytes": -(-layer.index.size // 8),
            "groups": min(MOST_GROUPS, header.top_images),
            "top": header.top_images,
            "height": layer.height,
            "width": layer.width,
        }
        return tuple(lengths[axis] for axis in self.axes)


SCORE = ArraySpec(
    name="score",
    axes=("units", "attempts", "runs", "kernels"),
    dtype="float32",
    fill=np.nan,
    unit="of the criterion",
    sentence="The kernel's score, the mean over the scoring images.",
    fill_meaning="NaN: the kernel cannot reach the unit.",
)
LEVEL = ArraySpec(
    name="level",
    axes=("units", "attempts", "kernels"),
    dtype="uint8",
    fill=0,
    unit="rungs",
    sentence="How many rungs' circuits hold the kernel, where they are nested: the circuit of rung "
    "j holds it if and only if the level is above j.",
    fill_meaning="0: no circuit holds the kernel.",
)
PACKED = ArraySpec(
    name="packed",
    axes=("units", "attempts", "fractions", "kernel_bytes"),
    dtype="uint8",
    fill=0,
    unit="bits",
    sentence="A bit a kernel, set where the rung's circuit holds it; used where the circuits are "
    "not nested.",
    fill_meaning="0: none of the eight kernels is held.",
)
IMAGE_SCORE = ArraySpec(
    name="image_score",
    axes=("units", "attempts", "top", "kernels"),
    dtype="uint16",
    fill=0,
    unit="code, see `quantise`",
    sentence="The kernel's score on one top image, quantised. The circuit of a set of images is "
    "the ranking of the sum of its rows.",
    fill_meaning="0: the score is exactly zero.",
    per="image criterion",
)
IMAGE_SCALE = ArraySpec(
    name="image_scale",
    axes=("units", "attempts", "top"),
    dtype="float32",
    fill=0,
    unit="of the criterion",
    sentence="The largest score on that image, which the codes of `image_score` are relative to.",
    fill_meaning="0: every score on the image is zero.",
    per="image criterion",
)
STABILITY = ArraySpec(
    name="stability",
    axes=("units", "attempts", "fractions", "kernels"),
    dtype="uint8",
    fill=0,
    unit="draws",
    sentence="In how many draws the circuit of that kept fraction holds the kernel, of as many as "
    "the header's `redrawn` says. A draw is the circuit of as many of the unit's top images, drawn "
    "with replacement; of `learned`, that of another training seed.",
    fill_meaning="0: no draw's circuit holds the kernel.",
    per="redrawn criterion",
)

GROUP_LEVEL = ArraySpec(
    name="group_level",
    axes=("units", "attempts", "groups", "kernels"),
    dtype="uint8",
    fill=0,
    unit="rungs",
    sentence="How many rungs' circuits of a sub-feature group hold the kernel, as `level` says of "
    "the unit's own; they are nested. A unit has them where it has two groups or more.",
    fill_meaning="0: no circuit holds the kernel, or the unit has fewer groups.",
    per="grouped criterion",
)

CONTRIBUTION = ArraySpec(
    name="contribution",
    axes=("units", "attempts", "kernels"),
    dtype="float32",
    fill=np.nan,
    unit="of the response, a position",
    sentence="What the kernel contributes to the response, with its sign: mean over the scoring "
    "images and the positions of A_oi x dr/dY_o. Positive adds to the response (excitation), "
    "negative takes from it (inhibition); where the response is of |y|, as `sum_abs`, what pushes "
    "a y below zero further down adds. Its magnitude is at most that of `actgrad`.",
    fill_meaning="NaN: the kernel cannot reach the unit.",
    per="unit",
)
RESPONSE_MAP = ArraySpec(
    name="response_map",
    axes=("units", "attempts", "top", "height", "width"),
    dtype="float32",
    fill=np.nan,
    unit="of the layer's output",
    sentence="The unit's output, as the layer gives it, on each of its top images.",
    fill_meaning="NaN: the unit has fewer top images.",
    per="unit",
)

ARRAYS: tuple[ArraySpec, ...] = (
    SCORE,
    LEVEL,
    PACKED,
    IMAGE_SCORE,
    IMAGE_SCALE,
    STABILITY,
    GROUP_LEVEL,
    CONTRIBUTION,
    RESPONSE_MAP,
)


def group(header: AtlasHeader, layer: LayerIndex) -> dict[str, bytes]:
    """Return the metadata of the layer's Zarr group: path from the atlas' root -> bytes.

    Compressed with zstd, checked with CRC-32C, and with one file name a chunk rather than a tree
    of folders, so that a unit of an array is one file in one folder.
    """
    written: dict[str, Buffer] = {}
    root = zarr.create_group(MemoryStore(written), zarr_format=3, attributes={"layer": layer.layer})
    for spec in ARRAYS:
        for criterion in spec.criteria(header):
            shape = spec.shape(header, layer, criterion)
            root.create_array(
                spec.name if criterion is None else f"{spec.name}/{segments.escape(criterion)}",
                shape=shape,
                chunks=(1, 1, *shape[2:]),
                dtype=spec.dtype,
                fill_value=spec.fill,
                compressors=[ZstdCodec(level=COMPRESSION_LEVEL), Crc32cCodec()],
                chunk_key_encoding={"name": "default", "separator": "."},
                dimension_names=spec.axes,
                attributes={
                    **({} if criterion is None else {"criterion": criterion}),
                    "sentence": spec.sentence,
                    "unit": spec.unit,
                    "fill": spec.fill_meaning,
                },
            )
    folder = layer_paths.arrays(layer.layer)
    return {f"{folder}/{key}": value.to_bytes() for key, value in written.items()}
