"""How far the visualizations of an atlas are, as tables: by layer, by unit, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import pyarrow as pa

from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.visualization_states import VisualizationState

BY_LAYER: dict[str, pa.DataType] = {
    "layer": pa.string(),
    "of": pa.string(),
    "planned": pa.int32(),
    "done": pa.int32(),
    "failed": pa.int32(),
    "missing": pa.int32(),
    "visualizations": pa.int32(),
    "visualizations_planned": pa.int32(),
}
BY_UNIT: dict[str, pa.DataType] = {
    "unit": pa.int32(),
    "name": pa.string(),
    "state": pa.string(),
    "visualizations": pa.int32(),
    "visualizations_planned": pa.int32(),
    "error": pa.string(),
}
FAILURES: dict[str, pa.DataType] = {
    "layer": pa.string(),
    "of": pa.string(),
    "unit": pa.int32(),
    "name": pa.string(),
    "kind": pa.string(),
    "message": pa.string(),
}


def by_layer(states: Sequence[VisualizationState]) -> pa.Table:
    """Count by layer and convolution, see `Atlas.visualization_status`; `states` in their order."""
    rows = []
    for (of, layer), group in groupby(states, key=lambda one: (one.of, one.layer)):
        of_layer_states = list(group)
        counts = [one.state for one in of_layer_states]
        rows.append(
            {
                "layer": layer,
                "of": of,
                "planned": len(of_layer_states),
                "done": counts.count("done"),
                "failed": counts.count("failed"),
                "missing": counts.count("missing"),
                "visualizations": sum(len(one.made) for one in of_layer_states),
                "visualizations_planned": sum(len(one.planned) for one in of_layer_states),
            }
        )
    return pa.Table.from_pylist(rows, pa.schema(BY_LAYER))


def of_layer(states: Sequence[VisualizationState], layer: str, reader: Reader) -> pa.Table:
    """List the units of a layer, see `Layer.features`."""
    rows = [
        {
            "unit": one.number,
            "name": _name(one, reader),
            "state": one.state,
            "visualizations": len(one.made),
            "visualizations_planned": len(one.planned),
            "error": None
            if one.failure is None
            else f"{one.failure.kind}: {_one_line(one.failure.message)}",
        }
        for one in states
        if (one.of, one.layer) == ("unit", layer)
    ]
    return pa.Table.from_pylist(rows, pa.schema(BY_UNIT))


def failures(states: Sequence[VisualizationState], reader: Reader) -> pa.Table:
    """List what failed, see `Atlas.visualization_failures`."""
    rows = [
        {
            "layer": one.layer,
            "of": one.of,
            "unit": one.number,
            "name": _name(one, reader),
            "kind": one.failure.kind,
            "message": _one_line(one.failure.message),
        }
        for one in states
        if one.failure is not None
    ]
    return pa.Table.from_pylist(rows, pa.schema(FAILURES))


def _name(one: VisualizationState, reader: Reader) -> str:
    """A direction's name, or the number as text."""
    if one.of == "channel":
        return str(one.number)
    return reader.layer(one.layer).unit(one.number).name


def _one_line(text: str) -> str:
    return " ".join(text.split())
