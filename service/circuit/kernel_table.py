"""A circuit's kernels as tables: which they are, what is stored of each, how many lie where."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.circuit.chosen_kernels import ChosenKernels
from circuit_atlas.service.circuit.kernel_ids import counts
from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.version import NETWORK_SINCE

_RIGHT = "the kernel came from the right of a union"
_OLD = "the atlas is too old to have it"

_CONVOLUTION = Column(
    "convolution",
    pa.dictionary(pa.int32(), pa.string()),
    "",
    "Convolution",
    "Name of the convolution.",
)
_OUT = Column("out_channel", pa.int32(), "", "Out", "Output channel of the kernel.")
_IN = Column("in_channel", pa.int32(), "", "In", "Input channel, over all channels of the input.")
_SCORE = Column("score", pa.float32(), "", "Score", "Score that ranks the kernel.", null=_RIGHT)
_POSITION = Column(
    "position", pa.int32(), "", "Position", "Place on the unit's kernel axis.", null=_RIGHT
)
_CONTRIBUTION = Column(
    "contribution",
    pa.float32(),
    "",
    "Contribution",
    "What it contributes to the response, with its sign: activation x gradient, the mean over the "
    "scoring images and positions.",
    null=f"{_RIGHT}, or {_OLD}",
)
_WEIGHT_NORM = Column(
    "weight_norm",
    pa.float32(),
    "",
    "Weight norm",
    "Square root of the sum of the squares of the kernel's weights.",
    null=f"{_OLD}, or the weight is computed",
)
_SIGN = Column(
    "sign",
    pa.int8(),
    "",
    "Sign",
    "1 where the kernel excites the unit, -1 where it inhibits it, 0 where it does neither.",
    null=f"{_RIGHT}, or {_OLD}",
)
_STORED = (_CONVOLUTION, _OUT, _IN, _SCORE, _POSITION)
KERNELS = (*_STORED, _CONTRIBUTION, _WEIGHT_NORM, _SIGN)
"""The columns of `Circuit.kernels`."""


def ranked_kernels(circuit: ChosenKernels) -> pa.Table:
    """Return the kernels of a circuit with score and position, in the order of the kernel axis:
    all of `KERNELS` that nothing more is read for."""
    ordinal, out, channel = circuit.located
    unknown = circuit.positions < 0
    names = pa.array([c.name for c in circuit.index.convolutions], pa.string())
    arrays = [
        pa.DictionaryArray.from_arrays(pa.array(ordinal, pa.int32()), names),
        pa.array(out, pa.int32()),
        pa.array(channel, pa.int32()),
        pa.array(circuit.scores, pa.float32(), mask=unknown),
        pa.array(circuit.positions, pa.int32(), mask=unknown),
    ]
    return pa.Table.from_arrays(arrays, schema=pa.schema([c.field() for c in _STORED]))


def kernel_table(circuit: ChosenKernels) -> pa.Table:
    """Return `KERNELS` of a circuit, see `Circuit.kernels`."""
    known = circuit.positions >= 0
    contribution, norm = _contribution(circuit), _weight_norm(circuit)
    unknown = ~known | np.isnan(contribution)
    table = ranked_kernels(circuit)
    for column, values, missing in (
        (_CONTRIBUTION, contribution, unknown),
        (_WEIGHT_NORM, norm, np.isnan(norm)),
        (_SIGN, np.sign(np.nan_to_num(contribution)).astype(np.int8), unknown),
    ):
        table = table.append_column(column.field(), pa.array(values, column.type, mask=missing))
    return table


def convolution_table(circuit: ChosenKernels) -> pa.Table:
    """Count a circuit's kernels in each convolution, see `Circuit.by_convolution`."""
    index = circuit.index
    return pa.table(
        {
            "convolution": [c.name for c in index.convolutions],
            "depth": pa.array([c.depth for c in index.convolutions], pa.int32()),
            "kernels": pa.array(counts(index, circuit.ids), pa.int32()),
            "reachable_kernels": pa.array(counts(index, circuit.reachable), pa.int32()),
        }
    )


def _contribution(circuit: ChosenKernels) -> NDArray[np.float32]:
    """What is stored of the kernels that have a position, which is on the axis of the first
    origin; NaN of the others."""
    found = np.full(len(circuit.positions), np.nan, np.float32)
    known = circuit.positions >= 0
    if circuit.origins and circuit.origins[0].reader.header.schema >= NETWORK_SINCE:
        origin = circuit.origins[0]
        found[known] = origin.reader.contribution(origin.commit)[circuit.positions[known]]
    return found


def _weight_norm(circuit: ChosenKernels) -> NDArray[np.float32]:
    """L2 norm of each kernel's weights, as stored with the first origin's layer that has them."""
    found = np.full(len(circuit.positions), np.nan, np.float32)
    ordinal, out, channel = circuit.located
    for origin in circuit.origins:
        if origin.reader.header.schema < NETWORK_SINCE or not np.isnan(found).any():
            continue
        axis = origin.layer.index.convolutions
        stored = zip(axis, origin.reader.weights(origin.layer.layer), strict=True)
        weights = {c.name: weight for c, weight in stored}
        for number, convolution in enumerate(circuit.index.convolutions):
            weight = weights.get(convolution.name)
            here = np.flatnonzero((ordinal == number) & np.isnan(found))
            if weight is None or not len(here):
                continue
            group = out[here] // (convolution.out_channels // convolution.groups)
            within = channel[here] - group * convolution.in_channels
            kernels = weight[out[here], within].reshape(len(here), -1)
            found[here] = np.sqrt((kernels.astype(np.float64) ** 2).sum(axis=1))
    return found
