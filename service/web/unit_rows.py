"""The units of a layer as rows: facts, the smallest faithful circuit, filters, sorting."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.web.image_set import ImageSet
from circuit_atlas.service.web.layer_masks import stored_fraction
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot
from circuit_atlas.service.web.responses import plain
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.service.web.unit_facts import (
    MEASURES,
    LayerDigests,
    Protocol,
    UnitDigest,
    box_of,
)
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import nearest

_PARTS = {
    **{f"box_{side}": ("box", at) for at, side in enumerate(("top", "left", "bottom", "right"))},
    **{f"position_{axis}": ("position", at) for at, axis in enumerate("yx")},
}
"""Columns of the box and the position: where a row has them."""
_FILE = (
    pa.field("unit", pa.int32(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("state", pa.string(), nullable=False),
    pa.field("error", pa.string()),
    pa.field("kernels", pa.int64()),
    pa.field("keep", pa.float64()),
    pa.field("circuit_kernels", pa.int64()),
    pa.field("groups", pa.int32()),
    pa.field("silhouette", pa.float64()),
    pa.field("polysemanticity", pa.float64()),
    pa.field("feature", pa.string()),
    *(pa.field(name, pa.float64()) for name in MEASURES[1:]),
    pa.field("image", pa.int32()),
    pa.field("image_name", pa.string()),
    pa.field("label", pa.string()),
    pa.field("response", pa.float64()),
    pa.field("maximum", pa.float64()),
    *(pa.field(name, pa.int32()) for name in _PARTS),
)


@dataclass(frozen=True)
class Sortable:
    """A column that units can be sorted and filtered by."""

    name: str
    type: str
    sentence: str
    unit: str


@dataclass(frozen=True)
class Chosen:
    """By which measure units are compared.

    Attributes:
        protocol: which faithfulness rows.
        threshold: the Pearson r that a circuit has to reach.
        level: of the circuits whose other measures are columns.
    """

    protocol: Protocol
    threshold: float
    level: int


def choose(
    server: ServerState,
    criterion: str | None,
    ablation: str | None,
    split: str | None,
    threshold: float,
    at: float | None = None,
) -> Chosen:
    """What a question means by its words; QueryError, with the nearest names, for unknown ones.

    `at`: a stored fraction, the nearest to a tenth where not given.
    """
    atlas = server.atlas
    protocol = Protocol(
        arguments.criterion(atlas, criterion),
        arguments.ablation(atlas, ablation),
        arguments.split(atlas, split),
    )
    level = atlas.header.fractions.index(stored_fraction(atlas, at, what="at"))
    return Chosen(protocol, threshold, level)


def smallest(unit: UnitDigest, place: int, threshold: float) -> int | None:
    """The level of the smallest stored circuit whose r reaches the threshold, or None."""
    reached = np.flatnonzero(unit.r[place] >= threshold)
    return int(reached[-1]) if len(reached) else None


def columns(server: ServerState) -> tuple[Sortable, ...]:
    """The columns that units can be sorted and filtered by."""
    fixed = (
        Sortable("unit", "number", "Number of the unit.", ""),
        Sortable("name", "text", "Number as text, or the direction's name.", ""),
        Sortable("state", "state", "done, dead, failed or planned.", ""),
        Sortable("error", "text", "Why it failed or cannot be read.", ""),
        Sortable("kernels", "number", "Kernels that can reach the unit.", "kernels"),
        Sortable("keep", "number", "Kept fraction of the smallest faithful circuit.", "1"),
        Sortable("circuit_kernels", "number", "Kernels of that circuit.", "kernels"),
        Sortable("groups", "number", "Sub-feature groups of its top images.", "groups"),
        Sortable("silhouette", "number", "How well the groups part, -1 to 1.", "1"),
        Sortable("polysemanticity", "number", "How far its groups are features apart.", "0 to 1"),
        Sortable("feature", "text", "Name of its feature visualization.", ""),
        Sortable("image", "number", "The image with the largest response.", "image id"),
        Sortable("image_name", "text", "Name of that image.", ""),
        Sortable("label", "text", "Label of that image.", ""),
        Sortable("response", "number", "That response.", "of the layer's output"),
        Sortable("maximum", "number", "Largest output on that image.", "of the layer's output"),
    )
    box = (
        Sortable(f"box_{side}", "number", f"{side.capitalize()} of the box on it.", "input pixels")
        for side in ("top", "left", "bottom", "right")
    )
    position = (
        Sortable("position_y", "number", "Row of that largest output.", "of the layer's output"),
        Sortable("position_x", "number", "Column of it.", "of the layer's output"),
    )
    fractions = server.atlas.header.fractions
    r = (
        Sortable(name, "number", f"Pearson r where {name[2:]} is kept.", "1")
        for name in _rs(fractions)
    )
    others = (
        Sortable(name, "number", f"{name} of the circuit of the fraction `at`.", "1")
        for name in MEASURES[1:]
    )
    return (*fixed, *r, *others, *box, *position)


def unit_row(
    view: LayerSnapshot,
    digests: LayerDigests,
    number: int,
    chosen: Chosen,
    *,
    feature: str | None = None,
    images: ImageSet | None = None,
) -> dict[str, Any]:
    """One unit: what is known of it so far."""
    commit, failure = view.commits.get(number), view.failures.get(number)
    unit = digests.units.get(number) if commit is not None else None
    row: dict[str, Any] = {
        "unit": number,
        "name": view.layer.index.unit(number).name,
        "state": view.state(number),
        "error": None if failure is None else f"{failure.kind}: {failure.message}",
        "kernels": None if commit is None else commit.kernels,
        "keep": None,
        "circuit_kernels": None,
        "r": [],
        "groups": None,
        "silhouette": None,
        "polysemanticity": None,
        "feature": feature,
        **dict.fromkeys(MEASURES[1:]),
        "image": None,
        "image_name": None,
        "label": None,
        "box": None,
        "position": None,
        "response": None,
        "maximum": None,
    }
    if unit is None:
        return row
    row["error"] = unit.problem
    place = digests.protocols.index(chosen.protocol)
    if commit is not None and commit.state == "done" and unit.problem is None:
        row["r"] = [plain(float(r)) for r in unit.r[place]]
        level = smallest(unit, place, chosen.threshold)
        if level is not None:
            row["keep"] = digests.fractions[level]
            row["circuit_kernels"] = int(unit.kernels[level])
        criterion = chosen.protocol.criterion
        row["groups"], row["silhouette"] = unit.groups.get(criterion, (None, None))
        row["polysemanticity"] = digests.polysemanticity.get(number, {}).get(criterion)
        for name, value in zip(MEASURES[1:], unit.measures[1:, place, chosen.level], strict=True):
            row[name] = plain(float(value))
    if unit.top is not None:
        top = unit.top
        row["image"] = top["image"]
        if images is not None:
            named = images.facts(top["image"])
            row["image_name"], row["label"] = named["name"], named["label"]
        row["response"], row["maximum"] = top["response"], top["maximum"]
        row["position"] = [top["position_y"], top["position_x"]]
        row["box"] = list(box_of(top))
    return row


def filtered(
    rows: list[dict[str, Any]],
    known: Sequence[Sortable],
    *,
    fractions: Sequence[float],
    states: Sequence[str],
    texts: Sequence[tuple[str, str]],
    bounds: Sequence[tuple[str, str, float]],
) -> list[dict[str, Any]]:
    """The rows that pass all filters.

    Args:
        rows: all rows.
        known: columns.
        fractions: of the ladder, for the columns of r.
        states: only these, or all where empty.
        texts: the column, and what its text has to hold, in capitals or not.
        bounds: `min` or `max`, the column, and the value.

    Raises:
        QueryError: a column that is not there, a bound of one that is no number, or words in one
            that is no text.
    """
    if states:
        rows = [row for row in rows if row["state"] in states]
    for name, text in texts:
        column = _column(known, name)
        if column.type != "text":
            raise QueryError(f"has.{name}: only texts are searched, and this is {column.type}")
        wanted = text.casefold()
        rows = [row for row in rows if wanted in (row[name] or "").casefold()]
    for side, name, bound in bounds:
        column = _column(known, name)
        if column.type != "number":
            raise QueryError(f"{side}.{name}: only numbers have bounds, and this is {column.type}")
        value = _value(name, fractions)
        rows = [
            row
            for row in rows
            if (found := value(row)) is not None
            and (found >= bound if side == "min" else found <= bound)
        ]
    return rows


def in_order(
    rows: list[dict[str, Any]],
    known: Sequence[Sortable],
    *,
    fractions: Sequence[float],
    by: str,
    descending: bool,
) -> list[dict[str, Any]]:
    """Rows by a column, ties by number, those without a value last in both orders.

    QueryError where there is no such column.
    """
    _column(known, by)
    value = _value(by, fractions)
    with_value = [row for row in rows if value(row) is not None]
    without = [row for row in rows if value(row) is None]
    with_value.sort(key=lambda row: row["unit"])
    with_value.sort(key=value, reverse=descending)
    return with_value + sorted(without, key=lambda row: row["unit"])


def to_table(
    rows: Sequence[dict[str, Any]],
    fractions: Sequence[float],
    *,
    only: Collection[str] | None = None,
) -> pa.Table:
    """Rows as a table for files: a column a number. `only`: these parts of a row, or all."""
    parts = {name: _value(name, fractions) for name in (*_PARTS, *_rs(fractions))}
    flat = [row | {name: value(row) for name, value in parts.items()} for row in rows]
    # Stated, not found from the rows: files have the same columns whatever is in them.
    r = [pa.field(name, pa.float64()) for name in _rs(fractions)]
    fixed = [field for field in _FILE if only is None or field.name in only]
    return pa.Table.from_pylist(flat, pa.schema([*fixed, *r]))


def _column(known: Sequence[Sortable], name: str) -> Sortable:
    for column in known:
        if column.name == name:
            return column
    names = [column.name for column in known]
    raise QueryError(f"units have no column {name!r}: {nearest(name, names, what='columns')}")


def _rs(fractions: Sequence[float]) -> list[str]:
    """Names of the columns of r."""
    return [f"r.{fraction:g}" for fraction in fractions]


def _value(name: str, fractions: Sequence[float]) -> Callable[[dict[str, Any]], Any]:
    known = _rs(fractions)
    if name not in known and name not in _PARTS:
        return lambda row: row[name]
    whole, place = ("r", known.index(name)) if name in known else _PARTS[name]
    return lambda row: row[whole][place] if row[whole] else None
