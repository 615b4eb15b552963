"""Columns of a comparison of criteria over the units of a layer, which is worked out of its tables.

An interval is of 95 %, by the percentile bootstrap (Efron, "Bootstrap Methods: Another Look at the
Jackknife", 1979), over units or over images drawn anew.
"""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import UNIT, Column

_CRITERION = Column("criterion", pa.string(), "", "Criterion", "Which score ranked the kernels.")
_SPLIT = Column("split", pa.string(), "", "Images", "`held_out` or `scoring`.")
_LEVEL = Column(
    "level", pa.int16(), "", "Sparsity level", "Index of the kept fraction, 0 the largest."
)
_FRACTION = Column("fraction", pa.float64(), "1", "Kept fraction", "The kept fraction.")
_UNITS = Column("units", pa.int32(), "units", "Units", "Units that are compared.")
_NO_UNITS = "There is one unit."
_NO_IMAGES = (
    "A unit was built without sums of single images, there is one image, or it takes too much."
)
INTERVALS: tuple[Column, ...] = (
    Column(
        "low_units",
        pa.float64(),
        "1",
        "Units, low",
        "Lower end of the interval over units.",
        _NO_UNITS,
    ),
    Column(
        "high_units",
        pa.float64(),
        "1",
        "Units, high",
        "Upper end of the interval over units.",
        _NO_UNITS,
    ),
    Column(
        "low_images",
        pa.float64(),
        "1",
        "Images, low",
        "Lower end of the interval over images.",
        _NO_IMAGES,
    ),
    Column(
        "high_images",
        pa.float64(),
        "1",
        "Images, high",
        "Upper end of the interval over images.",
        _NO_IMAGES,
    ),
)
"""The intervals of whatever stands before them."""
COMPARISON: tuple[Column, ...] = (
    _CRITERION,
    _SPLIT,
    _LEVEL,
    _FRACTION,
    _UNITS,
    Column(
        "median",
        pa.float64(),
        "1",
        "Median r",
        "Median over units of Pearson r, undefined counted as 0.",
    ),
    *INTERVALS,
    Column(
        "best",
        pa.int32(),
        "units",
        "Best",
        "Units whose r is larger by this criterion than by every other.",
    ),
    Column(
        "tied",
        pa.int32(),
        "units",
        "Tied for best",
        "Units whose r no other criterion surpasses, and another comes within a ten-thousandth of.",
    ),
    Column(
        "silent",
        pa.int32(),
        "units",
        "Silent",
        "Units whose circuit never fires where the whole network does.",
        null="The atlas is of schema version 2 or older.",
    ),
    Column(
        "acting",
        pa.float64(),
        "1",
        "Share that acts",
        "Median over units of the share of the circuit's kernels that act.",
        null="A unit was stored before this was counted.",
    ),
)
"""Criteria at each kept fraction: a row for each criterion, split and fraction."""
AREAS: tuple[Column, ...] = (
    _CRITERION,
    _SPLIT,
    _UNITS,
    Column(
        "area",
        pa.float64(),
        "1",
        "Area",
        "Median over units of the area under r over the logarithm of the kept fraction, divided by "
        "that of r = 1: the mean r over all sizes. With one fraction it is r there.",
    ),
    *INTERVALS,
    Column("best", pa.int32(), "units", "Best", "Units whose area is the largest."),
    Column(
        "tied",
        pa.int32(),
        "units",
        "Tied for best",
        "Units whose area no other criterion surpasses, and another comes within a ten-thousandth "
        "of.",
    ),
)
"""Criteria over all kept fractions: a row for each criterion and split."""
PAIRS: tuple[Column, ...] = (
    _CRITERION,
    Column("other_criterion", pa.string(), "", "Against", "The criterion that it is held against."),
    _SPLIT,
    _UNITS,
    Column(
        "difference",
        pa.float64(),
        "1",
        "Difference",
        "Median over units of the difference of the areas, unit by unit.",
    ),
    *INTERVALS,
    Column("better", pa.int32(), "units", "Better", "Units whose area is larger."),
    Column("worse", pa.int32(), "units", "Worse", "Units whose area is smaller."),
    Column(
        "tied",
        pa.int32(),
        "units",
        "Tied",
        "Units whose areas differ by less than a ten-thousandth.",
    ),
)
"""Each criterion against each that comes after it: a row for each pair and split."""
COST: tuple[Column, ...] = (
    _CRITERION,
    Column("units", pa.int32(), "units", "Units", "Units of which it is known what choosing cost."),
    Column(
        "median_s",
        pa.float64(),
        "s",
        "Seconds a unit",
        "Median over units of the time that choosing the circuits of all fractions took: of work "
        "that units share the unit's share, of work that criteria share all.",
        null="It is known of no unit.",
    ),
    Column(
        "total_s", pa.float64(), "s", "Seconds in all", "Their sum.", null="It is known of no unit."
    ),
)
"""What choosing kernels cost: a row a criterion."""
COMPARED_UNITS: tuple[Column, ...] = (
    UNIT,
    Column("name", pa.string(), "", "Name", "Number as text, or the direction's name."),
    _CRITERION,
    _SPLIT,
    _LEVEL,
    _FRACTION,
    Column("kernels", pa.int32(), "kernels", "Kernels", "Kernels of the circuit."),
    Column(
        "acting",
        pa.int32(),
        "kernels",
        "Kernels that act",
        "Those of them that act.",
        null="The unit was stored before this was counted.",
    ),
    Column("pearson", pa.float64(), "1", "r", "Pearson r, undefined counted as 0."),
    Column(
        "silent",
        pa.bool_(),
        "",
        "Silent",
        "Whether the circuit never fires where the whole network does.",
        null="The atlas is of schema version 2 or older.",
    ),
)
"""What all the rest is made of: a row for each unit, criterion, split and fraction."""
