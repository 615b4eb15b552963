"""What `--json` prints: the same facts as the text, for programs."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pyarrow as pa

from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.unit_scores import with_silent
from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.client.unit_groups import known_groups


def to_json(value: object) -> str:
    """Write tables as lists of rows, dataclasses as objects, NaN as null; an indented document."""
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)


def atlas_facts(atlas: Atlas) -> dict[str, object]:
    """Describe an atlas: where it is, its header with the spec as an object, and its layers."""
    header = {**dataclasses.asdict(atlas.header), "spec": atlas.header.spec_content}
    layers = with_silent(atlas.reader, atlas.status().to_arrow())
    responses = [atlas.reader.layer(name).explained for name in atlas.layers]
    layers = layers.append_column("response", pa.array(responses, pa.string()))
    return {"location": atlas.location, "header": header, "layers": layers}


def layer_facts(layer: Layer) -> dict[str, object]:
    """Describe a layer: its shape, its units, and all their faithfulness rows."""
    return {
        "layer": layer.name,
        "channels": layer.index.channels,
        "height": layer.index.height,
        "width": layer.index.width,
        "kernels": layer.index.index.size,
        "activation": layer.index.activation,
        "response": layer.index.explained,
        "self_check": layer.index.self_check,
        "units": layer.units(),
        "faithfulness": layer.faithfulness(),
    }


def unit_facts(unit: Unit, query: CircuitQuery) -> dict[str, object]:
    """Describe a unit: its images, faithfulness, one of its circuits with its counts and kernels,
    and its sub-feature groups."""
    facts: dict[str, object] = {
        "layer": unit.layer,
        "unit": unit.number,
        "name": unit.info.name,
        "unit_label": unit.label,
        "state": unit.state,
        "reachable_kernels": unit.reachable_kernels,
        "images": unit.top_images(),
        "faithfulness": unit.faithfulness(),
    }
    if unit.state != "dead":
        circuit = unit.circuit(keep=query.fraction, criterion=query.criterion)
        facts["circuit"] = {
            "criterion": query.criterion,
            "keep": query.fraction,
            "layers": circuit.by_convolution(),
            "kernels": circuit.kernels(),
        }
    groups = known_groups(unit, query.criterion)
    if groups is not None:
        facts["groups"] = {
            "criterion": groups.criterion,
            "silhouette": groups.silhouette,
            "images": groups.table(),
            "selectivity": unit.selectivity(criterion=groups.criterion, ablation=query.ablation),
        }
    return facts


def _plain(value: object) -> Any:
    if isinstance(value, pa.Table | AtlasTable):
        return _plain(value.to_pylist())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    # What JSON has no form for, such as a date in the answer to a query, as its text.
    return value if isinstance(value, str | int | float | None) else str(value)
