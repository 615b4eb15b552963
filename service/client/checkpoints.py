"""Two atlases of one network with different weights: which units kept their circuits."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.units import find_unit
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema import bits
from circuit_atlas.storage_schema.columns import UNIT, Column, schema_of
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import listed, nearest

if TYPE_CHECKING:
    from circuit_atlas.service.diagram.drawing import Diagram

_LAYER = Column("layer", pa.string(), "", "Layer", "Name of the layer.")
_KEPT = Column(
    "kept",
    pa.bool_(),
    "",
    "Kept",
    "Whether no other unit's circuit in the other atlas shares more with the unit's own.",
)
UNITS = (
    _LAYER,
    UNIT,
    Column("name", pa.string(), "", "Name", "Number as text, or the direction's name."),
    Column("kernels", pa.int32(), "kernels", "Kernels", "Of its circuit in this atlas."),
    Column("other_kernels", pa.int32(), "kernels", "Other kernels", "In the other atlas."),
    Column("shared", pa.int32(), "kernels", "Shared", "Kernels of both circuits."),
    Column("iou", pa.float64(), "1", "IoU", "Kernels of both over kernels of either."),
    Column(
        "nearest",
        pa.int32(),
        "",
        "Nearest",
        "Unit of the other atlas whose circuit shares most with this one's; itself where it ties.",
    ),
    Column("nearest_iou", pa.float64(), "1", "IoU with it", "IoU with that unit's circuit."),
    _KEPT,
)
"""The columns of `Checkpoints.units`."""
LAYERS = (
    _LAYER,
    Column("units", pa.int32(), "units", "Units", "Units with a circuit in both atlases."),
    Column("kept", pa.int32(), "units", "Kept", "How many kept their circuits."),
    Column("median_iou", pa.float64(), "1", "Median IoU", "Of the units' own two circuits."),
)
"""The columns of `Checkpoints.layers`."""


@dataclass(frozen=True, eq=False, repr=False)
class Checkpoints:
    """Holds two atlases of one network whose weights differ, such as two checkpoints of one
    training.

    Attributes:
        left: reads the atlas that was asked.
        right: reads the other one.
        keep: the fraction that all circuits keep.
        criterion: the score that chose them.
        names: of the layers that both atlases have.
    """

    left: Reader
    right: Reader
    keep: float
    criterion: str
    names: tuple[str, ...]

    @classmethod
    def of(cls, left: Reader, right: Reader, *, keep: float, criterion: str | None) -> Checkpoints:
        """Check that the two can be held against each other, see `Atlas.compare`."""
        names = tuple(name for name in left.layers() if name in right.layers())
        if not names:
            raise QueryError(
                f"{left.objects.location} has layers {listed(left.layers())} and "
                f"{right.objects.location} {listed(right.layers())}: compare atlases that have a "
                "layer in common"
            )
        for name in names:
            _require_same(left, right, name)
        chosen = arguments.criterion(left, criterion)
        return cls(left, right, keep, arguments.criterion(right, chosen), names)

    @cached_property
    def _units(self) -> pa.Table:
        tables = [_units_of_layer(self, name) for name in self.names]
        return pa.concat_tables(tables)

    def units(self) -> AtlasTable:
        """Return one row for each unit that has a circuit in both atlases, by layer and number.

        Columns: layer; unit; name; kernels of its circuit and other_kernels in the other atlas;
        shared, kernels of both; iou; nearest, the unit of the other atlas whose circuit shares most
        with this one's, and nearest_iou; kept, whether that is the unit itself: it kept its
        circuit.
        """
        return AtlasTable(self._units)

    def layers(self) -> AtlasTable:
        """Return one row for each layer that both have: layer; units with a circuit in both; kept,
        how many kept their circuits; median_iou, null without units."""
        rows = []
        for name in self.names:
            units = [row for row in self._units.to_pylist() if row["layer"] == name]
            middle = median(row["iou"] for row in units) if units else None
            kept = sum(row["kept"] for row in units)
            rows.append({"layer": name, "units": len(units), "kept": kept, "median_iou": middle})
        schema = schema_of(LAYERS)
        at = schema.get_field_index("median_iou")
        schema = schema.set(at, schema.field(at).with_nullable(True))
        return AtlasTable(pa.Table.from_pylist(rows, schema))

    def drawing(self, layer: str, unit: int | str, **options: Any) -> SideBySide:
        """Draw a unit's circuits in both atlases side by side.

        Args:
            layer: one that both have.
            unit: its number or name.
            **options: as of `Circuit.diagram`, such as `edges`.

        Raises:
            QueryError: no such layer or unit, or the unit has no circuit in one of them.
        """
        if layer not in self.names:
            raise QueryError(
                f"the two have no layer {layer!r}: {nearest(layer, self.names, what='layers')}"
            )
        drawn = []
        for reader in (self.left, self.right):
            index = reader.layer(layer)
            one = Unit(reader, index, find_unit(index, unit))
            circuit = one.circuit(self.keep, criterion=self.criterion)
            drawn.append((reader.objects.location, circuit.diagram(**options)))
        return SideBySide(tuple(drawn))

    def __repr__(self) -> str:
        return (
            f"<Checkpoints {self.left.objects.location} and {self.right.objects.location}: "
            f"{len(self.names)} layers, circuits that keep {self.keep:g} by {self.criterion}>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.layers().to_arrow(), caption=repr(self)[1:-1])


@dataclass(frozen=True, repr=False)
class SideBySide:
    """Is one unit's circuit in two atlases, drawn beside each other.

    Attributes:
        drawings: where each is of, and the drawing.
    """

    drawings: tuple[tuple[str, Diagram], ...]

    def html(self) -> str:
        """Return both drawings, each under where it is of."""
        figures = "".join(
            f'<figure style="margin:0;flex:1 1 24rem;min-width:0"><figcaption>{escape(where)}: '
            f'{escape(drawn.content.title)}</figcaption><img alt="{escape(repr(drawn)[1:-1])}" '
            f'style="width:100%;background:#fff" src="data:image/svg+xml;base64,'
            f'{base64.b64encode(drawn.figure().svg.encode()).decode()}"></figure>'
            for where, drawn in self.drawings
        )
        return f'<div style="display:flex;flex-wrap:wrap;gap:1rem">{figures}</div>'

    def save(self, path: str | Path) -> Path:
        """Write a page, `.html`, whole or not at all; errors as of `Diagram.save`."""
        target = path_of(path)
        if target.suffix.lower() != ".html":
            raise QueryError(f"two drawings are saved as a page: end {target.name!r} with .html")
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>Two checkpoints</title>'
            f"{self.html()}</html>"
        )
        write_whole(target, page.encode())
        return target

    def __repr__(self) -> str:
        return f"<SideBySide {' and '.join(repr(drawn)[1:-1] for _, drawn in self.drawings)}>"

    def _repr_html_(self) -> str:
        return self.html()


def _require_same(left: Reader, right: Reader, name: str) -> None:
    """QueryError unless the layer is computed by the same convolutions in both."""
    one, two = left.layer(name), right.layer(name)
    if one.index == two.index and one.channels == two.channels:
        return
    shapes = {c.name: (c.out_channels, c.in_channels, c.groups) for c in one.index.convolutions}
    for convolution in two.index.convolutions:
        shape = (convolution.out_channels, convolution.in_channels, convolution.groups)
        if shapes.get(convolution.name) != shape:
            raise QueryError(
                f"{convolution.name!r}, which leads to layer {name!r}, has shape {shape} in "
                f"{right.objects.location} and {shapes.get(convolution.name, 'is not there')} in "
                f"{left.objects.location}: compare atlases of one network"
            )
    raise QueryError(
        f"other convolutions lead to layer {name!r} in {left.objects.location} than in "
        f"{right.objects.location}: compare atlases of one network"
    )


def _units_of_layer(pair: Checkpoints, name: str) -> pa.Table:
    """The rows of one layer, of `UNITS`."""
    masks = [_masks(reader, name, pair) for reader in (pair.left, pair.right)]
    index = masks[0].index
    everyone = [sorted(each.units) for each in masks]
    both = [unit for unit in everyone[0] if unit in set(everyone[1])]
    rows: list[dict[str, Any]] = []
    if both:
        others = np.asarray(everyone[1], np.int64)
        packed, owned, counts = masks[1].packed(everyone[1])
        sizes = counts.sum(axis=1, dtype=np.int64)
        for unit in both:
            rows.append(_row(masks[0], index, name, unit, others, packed, owned, sizes))
    return pa.Table.from_pylist(rows, schema_of(UNITS))


def _row(
    masks: Masks,
    index: LayerIndex,
    name: str,
    unit: int,
    others: np.ndarray[Any, np.dtype[np.int64]],
    packed: np.ndarray[Any, np.dtype[np.uint64]],
    owned: np.ndarray[Any, np.dtype[np.int64]],
    sizes: np.ndarray[Any, np.dtype[np.int64]],
) -> dict[str, Any]:
    """One unit's circuit against the circuits of all units of the other atlas."""
    own, rows, counts = masks.packed([unit])
    size = int(counts.sum())
    shared = bits.shared(
        np.concatenate([own, packed]),
        np.concatenate([rows, owned]),
        0,
        starts=masks.starts,
        owned=masks.owned,
    )[1:].sum(axis=1, dtype=np.int64)
    iou = shared / (sizes + size - shared)
    at = int(np.searchsorted(others, unit))
    best = at if iou[at] == iou.max() and iou[at] > 0 else int(iou.argmax())
    return {
        "layer": name,
        "unit": unit,
        "name": index.unit(unit).name,
        "kernels": size,
        "other_kernels": int(sizes[at]),
        "shared": int(shared[at]),
        "iou": float(iou[at]),
        "nearest": int(others[best]),
        "nearest_iou": float(iou[best]),
        "kept": best == at and bool(iou[at] > 0),
    }


def _masks(reader: Reader, name: str, pair: Checkpoints) -> Masks:
    return Masks(reader, reader.layer(name), keep=pair.keep, criterion=pair.criterion).add_all()
