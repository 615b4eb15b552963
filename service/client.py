"""A finished or growing atlas, read: the atlas, its layers, their units.

```python
from circuit_atlas.service import Atlas

unit = Atlas.open("circuit-atlas-demo").layer("features.7.expand3x3").unit(0)
unit.circuit(keep=0.1).kernels().to_pandas()
```
"""

from __future__ import annotations

import operator
import re
from pathlib import Path

import pyarrow as pa

from circuit_atlas.jobs.wording import nearest
from circuit_atlas.service.display import html_table
from circuit_atlas.service.unit import Unit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.reader import Reader

_STATUS: dict[str, pa.DataType] = {
    "layer": pa.string(),
    "planned": pa.int32(),
    "done": pa.int32(),
    "dead": pa.int32(),
    "failed": pa.int32(),
    "missing": pa.int32(),
}
_UNITS: dict[str, pa.DataType] = {
    "unit": pa.int32(),
    "name": pa.string(),
    "state": pa.string(),
    "kernels": pa.int32(),
    "error": pa.string(),
}


class Atlas:
    """An atlas, opened for reading. Nothing here loads a model or writes."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @classmethod
    def open(cls, place: str | Path) -> Atlas:
        """Open a folder or a URL such as `s3://bucket/atlas`; StoreError where there is none."""
        return cls(Reader(place))

    @property
    def place(self) -> str:
        """The folder or URL."""
        return self.reader.objects.place

    @property
    def header(self) -> AtlasHeader:
        """What the atlas was built from."""
        return self.reader.header

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the layers, sorted."""
        return self.reader.layers()

    def layer(self, name: str) -> Layer:
        """A layer by name; QueryError, with the nearest names, where the atlas has none such."""
        known = self.layers
        if name not in known:
            raise QueryError(
                f"{self.place} has no layer {name!r}: {nearest(name, known, what='layers')}"
            )
        return Layer(self, self.reader.layer(name))

    def images(self, *, pictures: bool = False) -> pa.Table:
        """The image set, one row an image, those left out included.

        Args:
            pictures: with a column of JPEG bytes, each picture as the network sees it.
        """
        table = self.reader.images()
        return table if pictures else table.drop_columns(["picture"])

    def status(self) -> pa.Table:
        """One row a layer: its name and how many units were asked for, are done, dead (their
        response never changes), failed, and neither of these yet (missing)."""
        asked = dict(self.reader.plan().units)
        rows = []
        for name in self.layers:
            commits, failed = self.reader.commits(name), self.reader.failures(name)
            states = [commit.state for commit in commits.values()]
            planned = asked.get(name, ())
            rows.append(
                {
                    "layer": name,
                    "planned": len(planned),
                    "done": states.count("done"),
                    "dead": states.count("dead"),
                    "failed": len(failed),
                    "missing": len(set(planned) - failed.keys() - commits.keys()),
                }
            )
        return pa.Table.from_pylist(rows, pa.schema(_STATUS))

    def __repr__(self) -> str:
        layers = self.layers
        what = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
        return (
            f"<Atlas {self.place}: {self.header.model}, {what}, {', '.join(self.header.criteria)}>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.status(), caption=repr(self)[1:-1])


class Layer:
    """One layer of an atlas. It sees the units that are stored when it is asked."""

    def __init__(self, atlas: Atlas, index: LayerIndex) -> None:
        self.atlas = atlas
        self.index = index

    @property
    def name(self) -> str:
        """The module's path in the model."""
        return self.index.layer

    def unit(self, which: int | str) -> Unit:
        """A unit by its number, also as text, or a direction by its name, whatever its state.

        QueryError where the layer has no such unit, with the range or the nearest names.
        """
        if isinstance(which, str):
            for info in self.index.units:
                if info.name == which:
                    return Unit(self, info)
            if not re.fullmatch(r"[+-]?\d{1,18}", which):
                directions = [info.name for info in self.index.units if info.direction is not None]
                raise QueryError(
                    f"layer {self.name!r} has units {self._range} and no direction {which!r}: "
                    + nearest(which, directions, what="directions")
                )
            which = int(which)
        try:
            number = operator.index(which)
        except TypeError:
            raise QueryError(
                f"a unit is named by its number or its direction's name, not by {which!r}"
            ) from None
        if not 0 <= number < len(self.index.units):
            raise QueryError(
                f"layer {self.name!r} has no unit {number}; units go from {self._range}"
            )
        return Unit(self, self.index.unit(number))

    @property
    def _range(self) -> str:
        return f"0 to {len(self.index.units) - 1}"

    def units(self) -> pa.Table:
        """One row a unit that was asked for or is stored: unit, name, state (done, dead, failed or
        planned), kernels that can reach it (null unless done or dead), error (null unless
        failed)."""
        reader = self.atlas.reader
        commits, failures = reader.commits(self.name), reader.failures(self.name)
        planned = dict(reader.plan().units).get(self.name, ())
        rows = []
        for number in sorted({*planned, *commits, *failures}):
            commit, failure = commits.get(number), failures.get(number)
            rows.append(
                {
                    "unit": number,
                    "name": self.index.unit(number).name,
                    "state": commit.state if commit else "failed" if failure else "planned",
                    "kernels": commit.kernels if commit else None,
                    "error": None if failure is None else f"{failure.kind}: {failure.message}",
                }
            )
        return pa.Table.from_pylist(rows, pa.schema(_UNITS))

    def faithfulness(self) -> pa.Table:
        """How well the circuits of all units preserve their responses; a `unit` column first."""
        return self.atlas.reader.table(self.name, "faithfulness")

    def responses(self) -> pa.Table:
        """What each image does to each unit; a `unit` column first."""
        return self.atlas.reader.table(self.name, "responses")

    def subfeatures(self) -> pa.Table:
        """How well the circuits of single images do; a `unit` column first."""
        return self.atlas.reader.table(self.name, "subfeatures")

    def __repr__(self) -> str:
        i = self.index
        return (
            f"<Layer {self.name} of {self.atlas.header.model}: {len(i.units)} units, "
            f"{i.height} x {i.width} positions, {i.index.size:,} kernels in "
            f"{len(i.index.convolutions)} convolutions>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.units(), caption=repr(self)[1:-1])
