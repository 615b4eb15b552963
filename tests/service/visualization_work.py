"""Feature visualizations of the client's small atlas: some made, some to be made, some failed."""

from __future__ import annotations

from pathlib import Path

from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan
from circuit_atlas.storage_schema.visualizations import FeatureWriter
from tests.storage_schema.visualization_records import picture_record

BOTH = ("negative", "positive")
GREY = "visualization 'positive' of channel 3 of 'conv1' is all but grey"


def make(location: Path, layer: str, unit: int, *variants: str) -> None:
    for variant in variants:
        record = picture_record(layer, unit, variant=variant, model="toy.models:small")
        FeatureWriter(open_store(location)).commit(record, b"a picture")


def begin(folder: Path) -> None:
    """Asks for visualizations of three units and two channels; one of each gets them all, and one
    of each fails."""
    writer = FeatureWriter(open_store(folder))
    writer.plan(
        VisualizationPlan.of(
            [
                *(("conv2", "unit", unit, BOTH) for unit in (0, 1, 4)),
                *(("conv1", "channel", channel, ("positive",)) for channel in (0, 3)),
            ]
        )
    )
    make(folder, "conv2", 0, *BOTH)
    make(folder, "conv2", 1, "positive")
    make(folder, "conv1", 0, "positive")
    for layer, unit, kind, message in (
        ("conv2", 4, "non_finite", "NaN:\n  look at the weights"),
        ("conv1", 3, "unit", GREY),
    ):
        key = UnitKey("toy.models:small", layer, unit)
        writer.fail(FailureRecord(key, kind, message, "trace"))
