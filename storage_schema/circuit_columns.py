"""The columns that say which circuit a row is of."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import Column

CRITERION = Column("criterion", pa.string(), "", "Criterion", "Which score ranked the kernels.")
ABLATION = Column(
    "ablation",
    pa.string(),
    "",
    "Ablation",
    "What stands for a dropped kernel: `zero`, or its `mean` contribution over scoring images.",
    among=("zero", "mean"),
)
TARGET = Column(
    "target",
    pa.string(),
    "",
    "Target",
    "Which response is explained, as in the header.",
    stored_as="response",
)
LEVEL = Column(
    "level",
    pa.int16(),
    "",
    "Sparsity level",
    "Index of the kept fraction among the header's `fractions`, 0 for the largest.",
    stored_as="rung",
    least=0,
    numbers="sparsity level",
)
FRACTION = Column(
    "fraction",
    pa.float64(),
    "1",
    "Kept fraction",
    "The kept fraction f of that sparsity level.",
    least=0,
    most=1,
)
KERNELS = Column(
    "kernels",
    pa.int32(),
    "kernels",
    "Kernels",
    "Kernels of the circuit: max(1, round(f N)) of N.",
    least=0,
)
ACTING = Column(
    "acting",
    pa.int32(),
    "kernels",
    "Kernels that act",
    "Those of the circuit's kernels that lie on a path of its kernels from the image to the unit: "
    "no other can change how the unit responds to images.",
    null="The unit was stored before this was counted.",
    since=3,
    least=0,
)
SPLIT = Column(
    "split", pa.string(), "", "Split", "`scoring` or `held_out`.", among=("scoring", "held_out")
)
