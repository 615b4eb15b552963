"""Columns that are worked out of a layer's stored tables: its units at a glance, and the layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from circuit_atlas.storage_schema import sealed
from circuit_atlas.storage_schema.circuit_columns import ACTING
from circuit_atlas.storage_schema.columns import UNIT, Column
from circuit_atlas.storage_schema.image_table import BOX
from circuit_atlas.storage_schema.measures import AUC, MEASURES, PEARSON_IMAGES

_NAME = Column("name", pa.string(), "", "Name", "Number as text, or the direction's name.")
_LABEL = Column(
    "unit_label", pa.string(), "", "Label", "What the unit stands for.", null="Nothing says so."
)
_STATE = Column("state", pa.string(), "", "State", "done, dead, failed or planned.")
_REACHABLE_KERNELS = Column(
    "reachable_kernels",
    pa.int32(),
    "kernels",
    "Kernels in reach",
    "Kernels that can reach the unit.",
    null="It is not stored.",
)
_ERROR = Column(
    "error", pa.string(), "", "Error", "Why it failed or cannot be read.", null="Nothing is wrong."
)
_LEVEL = Column(
    "level",
    pa.int16(),
    "",
    "Sparsity level",
    "Sparsity level of the smallest circuit whose Pearson r reaches the threshold.",
    null="None reaches it, or it cannot be read.",
)
_FRACTION = Column(
    "fraction",
    pa.float64(),
    "1",
    "Smallest kept fraction",
    "Kept fraction of the smallest circuit whose Pearson r reaches the threshold.",
    null="None reaches it, or it cannot be read.",
)
_KERNELS = Column(
    "kernels",
    pa.int32(),
    "kernels",
    "Smallest circuit",
    "Kernels of the smallest circuit whose Pearson r reaches the threshold.",
    null="None reaches the threshold, or it cannot be read.",
)
_GROUPS = Column(
    "groups",
    pa.int16(),
    "groups",
    "Sub-features",
    "Sub-feature groups of its top images.",
    null="They are not known.",
)
_SILHOUETTE = Column(
    "silhouette",
    pa.float64(),
    "1",
    "Silhouette",
    "How well the groups part, -1 to 1.",
    null="One group, or they are not known.",
)
_SEALED = sealed.POLYSEMANTICITY.columns[-1]
_POLYSEMANTICITY = replace(
    _SEALED,
    sentence=f"{_SEALED.sentence} Worked out when the unit is sealed.",
    null="It is undefined, or the unit is not sealed yet.",
)
_TOP = "It has no top image, or cannot be read."
_IMAGE = Column(
    "image", pa.int32(), "image id", "Top image", "The image with the largest response.", null=_TOP
)
_RESPONSE = Column(
    "response", pa.float64(), "of the layer's output", "Largest response", "That response.", _TOP
)
_MAXIMUM = Column(
    "maximum",
    pa.float64(),
    "of the layer's output",
    "Largest output",
    "Largest output on that image.",
    null=_TOP,
)
_BOX = tuple(Column(c.name, c.type, c.unit, c.title, c.sentence, null=_TOP) for c in BOX)

TOP_IMAGE: tuple[Column, ...] = (_IMAGE, _RESPONSE, _MAXIMUM, *_BOX)
"""A unit's first top image, and where its output is largest on it."""
UNITS: tuple[Column, ...] = (UNIT, _NAME, _LABEL, _STATE, _REACHABLE_KERNELS, _ERROR)
"""A layer's units and their states."""
UNIT_FACTS: tuple[Column, ...] = (
    UNIT,
    _NAME,
    _LABEL,
    _STATE,
    _REACHABLE_KERNELS,
    _LEVEL,
    _FRACTION,
    _KERNELS,
    _GROUPS,
    _SILHOUETTE,
    _POLYSEMANTICITY,
    *TOP_IMAGE,
    _ERROR,
)
"""A layer's units at a glance; r of each sparsity level stands beside them, see `r_columns`."""
FEATURE = Column(
    "feature",
    pa.string(),
    "",
    "Feature visualization",
    "Name of its feature visualization, `positive` where there is that.",
    null="It has none.",
)
IMAGE_NAMES: tuple[Column, ...] = (
    Column("image_name", pa.string(), "", "Top image’s name", "Name of its top image.", null=_TOP),
    Column(
        "label",
        pa.string(),
        "",
        "Top image’s label",
        "Label of its top image.",
        null="None is known, or it has no top image.",
    ),
)
OTHER_MEASURES: tuple[Column, ...] = tuple(
    Column(
        column.name,
        column.type,
        column.unit,
        column.title,
        f"{column.sentence} Told of the circuit of the fraction asked for.",
        null=f"{column.null} Or it cannot be read.",
    )
    for column in (*MEASURES[1:], PEARSON_IMAGES, *AUC)
)
"""What is told of faithfulness besides Pearson r, of one circuit of each unit."""
SILENT = Column(
    "silent",
    pa.bool_(),
    "",
    "Silent",
    "Whether the circuit of the fraction asked for never fires where the whole network does.",
    null="It has no circuit, cannot be read, or the atlas is of schema version 2 or older.",
)
_ACTING = Column(
    ACTING.name,
    ACTING.type,
    ACTING.unit,
    ACTING.title,
    "How many kernels act in the circuit of the fraction asked for: they lie on a path of its "
    "kernels from the image to the unit.",
    null=f"{ACTING.null} Or it has no circuit, or cannot be read.",
)
OF_CIRCUIT: tuple[Column, ...] = (*OTHER_MEASURES, SILENT, _ACTING)
"""What is told of the circuit of the fraction asked for, besides Pearson r."""


def r_columns(fractions: Sequence[float]) -> tuple[Column, ...]:
    """Declare Pearson r at each of the stored fractions, a column each."""
    return tuple(
        Column(
            f"r.{fraction:g}",
            pa.float64(),
            "1",
            f"r at {100 * fraction:.3g} %",
            f"Pearson r where {fraction:g} is kept.",
            null="It is undefined, the unit has no circuit, or it cannot be read.",
        )
        for fraction in fractions
    )


_NO_UNIT = "No unit is done."
DISTRIBUTION: tuple[Column, ...] = (
    Column("level", pa.int16(), "", "Sparsity level", "Index of the kept fraction, 0 the largest."),
    Column("fraction", pa.float64(), "1", "Kept fraction", "The kept fraction of that level."),
    Column("units", pa.int32(), "units", "Units", "Units that are done."),
    Column(
        "undefined",
        pa.int32(),
        "units",
        "Undefined",
        "Those whose Pearson r is undefined there, which counts as 0.",
    ),
    Column(
        "silent",
        pa.int32(),
        "units",
        "Silent",
        "Those whose circuit never fires there where the whole network does.",
    ),
    Column("reached", pa.int32(), "units", "Reached", "Those whose r reaches the threshold."),
    Column(
        "smallest",
        pa.int32(),
        "units",
        "Smallest",
        "Those for which this is the smallest circuit that reaches it.",
    ),
    Column("low", pa.float64(), "1", "Tenth", "10th percentile of r.", null=_NO_UNIT),
    Column("quarter", pa.float64(), "1", "Quarter", "25th percentile of r.", null=_NO_UNIT),
    Column("median", pa.float64(), "1", "Median", "Median of r.", null=_NO_UNIT),
    Column(
        "three_quarters",
        pa.float64(),
        "1",
        "Three quarters",
        "75th percentile of r.",
        null=_NO_UNIT,
    ),
    Column("high", pa.float64(), "1", "Nine tenths", "90th percentile of r.", null=_NO_UNIT),
)
"""How r is spread over a layer's units, a row for each sparsity level."""

RESPONDING: tuple[Column, ...] = (
    Column("layer", pa.string(), "", "Layer", "The unit's layer."),
    UNIT,
    _NAME,
    _LABEL,
    Column(
        "rank",
        pa.int32(),
        "images",
        "Rank",
        "How many of the unit's images, scoring and held out, have a larger response.",
    ),
    Column(
        "top_rank",
        pa.int32(),
        "",
        "Rank among top images",
        "Rank of the image among the unit's top images, 0 for the largest response.",
        null="It is not one of the unit's top images.",
    ),
    Column("response", pa.float64(), "of the layer's output", "Response", "The response."),
    Column(
        "share",
        pa.float64(),
        "1",
        "Share",
        "The response over the unit's largest.",
        null="That is not above zero.",
    ),
    Column("maximum", pa.float64(), "of the layer's output", "Largest output", "Largest output."),
    *BOX,
)
"""Units by how they respond to one image."""

LAYERS: tuple[Column, ...] = (
    Column("layer", pa.string(), "", "Layer", "The module's path in the model."),
    Column("planned", pa.int32(), "units", "Planned", "Units that were asked for."),
    Column("done", pa.int32(), "units", "Done", "Units with circuits."),
    Column("dead", pa.int32(), "units", "Dead", "Units whose response never changes."),
    Column("failed", pa.int32(), "units", "Failed", "Units that failed."),
    Column("missing", pa.int32(), "units", "Missing", "Units asked for and not computed yet."),
)
"""How far each layer is built."""
