"""What lies at each position of a layer's kernel axis."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from circuit_atlas.storage_schema.kernels import KernelIndex


def axis_table(index: KernelIndex) -> pa.Table:
    """Return one row for each position, see `Layer.kernels`."""
    positions = np.arange(index.size)
    ordinal, out, channel = index.locate(positions, (0,) * index.owned)
    own = np.array([c.one_row for c in index.convolutions], np.bool_)[ordinal]
    # Where it is grouped, a unit's own row says which input channels it reads.
    grouped = np.array([c.groups > 1 for c in index.convolutions], np.bool_)[ordinal]
    return pa.table(
        {
            "position": pa.array(positions, pa.int32()),
            "convolution": pa.DictionaryArray.from_arrays(
                pa.array(ordinal, pa.int32()),
                pa.array([c.name for c in index.convolutions], pa.string()),
            ),
            "out_channel": pa.array(out, pa.int32(), mask=own),
            "in_channel": pa.array(channel, pa.int32(), mask=own & grouped),
        }
    )
