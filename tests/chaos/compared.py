"""Two atlases of the same units, held against each other: which units differ, and in what.

Masks must be the same bit by bit, and everything that is not a number. Numbers may differ in the
last bits, as units are computed in other company after a fault than without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import unit_tables
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import AtlasError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify

# float32 sums of a few hundred terms in another order.
_RELATIVE, _ABSOLUTE = 2e-5, 1e-6

Values = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Comparison:
    """What one atlas lacks of another, or has otherwise.

    Attributes:
        lost: units, and visualizations, that are not there, by name.
        wrong: those that differ, or cannot be read, with what of them does.
        damaged: what `verify` finds that does harm, a line each.
    """

    lost: tuple[str, ...]
    wrong: Mapping[str, str]
    damaged: tuple[str, ...]


def compare(atlas: Path, undisturbed: Path, *, visualizations: bool = False) -> Comparison:
    """Hold an atlas against the one that no fault met, visualizations only where asked."""
    found, right = Reader(atlas), Reader(undisturbed)
    lost: list[str] = []
    wrong: dict[str, str] = {}
    for layer in right.layers():
        commits = found.commits(layer) if layer in found.layers() else {}
        for unit, commit in right.commits(layer).items():
            name = f"{layer}/{unit}"
            if unit not in commits:
                lost.append(name)
            elif reason := _difference(found, commits[unit], right, commit):
                wrong[name] = reason
        if commits:
            wrong.update(_layer_difference(found, right, layer))
    images = _visualizations(found) if visualizations else {}
    for name, image in _visualizations(right).items() if visualizations else ():
        other = images.get(name)
        if other is None:
            lost.append(name)
        elif other != image:
            wrong[name] = "the image"
    damaged = tuple(str(finding) for finding in verify(open_store(atlas)) if finding.harmful)
    return Comparison(tuple(lost), wrong, damaged)


def _difference(found: Reader, commit: Commit, right: Reader, undisturbed: Commit) -> str:
    """What of a unit differs, in a few words; nothing where all is the same."""
    try:
        values = _of_unit(found, commit)
    except AtlasError as error:
        return str(error)
    return _first_difference(values, _of_unit(right, undisturbed))


def _layer_difference(found: Reader, right: Reader, layer: str) -> Iterator[tuple[str, str]]:
    """What differs of that which the units of a layer share, sealed tables included."""
    try:
        values = _of_layer(found, layer)
    except AtlasError as error:
        yield layer, str(error)
        return
    if reason := _first_difference(values, _of_layer(right, layer)):
        yield layer, reason


def _of_unit(reader: Reader, commit: Commit) -> Values:
    """Everything that is stored of a unit, times aside."""
    values: Values = {
        "state": np.array([commit.state, str(commit.kernels), str(commit.forms)]),
        **_columns("responses", reader.responses(commit)),
    }
    if commit.state == "dead":
        return values
    header = reader.header
    for name in header.criteria:
        masks = [reader.mask(commit, name, level) for level in range(len(header.fractions))]
        values[f"masks by {name}"] = np.stack(masks)
        values[f"scores by {name}"] = reader.scores(commit, name)
    for name in header.image_criteria:
        values[f"scores of images by {name}"] = reader.image_scores(commit, name)
    values["contribution"] = reader.contribution(commit)
    values["response maps"] = reader.response_maps(commit)
    for table in ("faithfulness", "subfeatures", "groups", "selectivity"):
        values |= _columns(table, getattr(reader, table)(commit))
    distribution = reader.distribution(commit.layer, commit.unit)
    if distribution is not None:
        values["distribution"] = np.array([str(sorted(distribution.items()))])
    return values


def _of_layer(reader: Reader, layer: str) -> Values:
    values: Values = {"wiring": np.array([str(reader.wiring(layer))])}
    for n, weight in enumerate(reader.weights(layer)):
        if weight is not None:
            values[f"weights {n}"] = weight
    values |= _columns("channels", reader.channels(layer))
    for table in unit_tables.FRAGMENTS:
        rows = reader.table(layer, table.name)
        values |= _columns(f"{table.name} of all", rows.sort_by("unit"))
    return values


def _columns(name: str, table: pa.Table) -> Values:
    return {
        f"{name}.{column}": table[column].combine_chunks().to_numpy(zero_copy_only=False)
        for column in table.column_names
    }


def _first_difference(values: Values, right: Values) -> str:
    if values.keys() != right.keys():
        return f"has other values: {sorted(values.keys() ^ right.keys())}"
    return next((name for name in right if not _same(values[name], right[name])), "")


def _same(values: NDArray[Any], right: NDArray[Any]) -> bool:
    if values.shape != right.shape:
        return False
    if values.dtype.kind == "f":
        return np.allclose(values, right, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)
    if values.dtype.kind == "O":
        return [str(value) for value in values] == [str(value) for value in right]
    return np.array_equal(values, right)


def _visualizations(reader: Reader) -> dict[str, bytes]:
    """Every visualization of units and channels, by name; one that cannot be read is empty."""
    images = {}
    for state in reader.visualization_states():
        for record in reader.feature_visualizations(state.layer, state.number):
            try:
                image = reader.visualization_image(record)
            except AtlasError:
                image = b""
            images[f"visualization {state.layer}/{state.number} {record.variant}"] = image
    return images
