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

from circuit_atlas.service.analysis.arguments import whole
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.polysemanticity import KEEP
from circuit_atlas.service.analysis.polysemanticity import of_layer as polysemanticity
from circuit_atlas.service.analysis.responding import responding
from circuit_atlas.service.analysis.search import search
from circuit_atlas.service.analysis.similarity import Similarity, of_masks
from circuit_atlas.service.analysis.sql import sql
from circuit_atlas.service.analysis.summary import CircuitQuery, LayerTables, distribution, summary
from circuit_atlas.service.analysis.uses import uses
from circuit_atlas.service.circuit.display import html_table
from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.feature_visualization import FeatureVisualization
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import nearest

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
        """Open a folder, a URL such as `s3://bucket/atlas`, or the address that
        `circuit-atlas serve` printed; StoreError where there is none."""
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

    def responding(self, image: int, *, layer: str | None = None, limit: int = 20) -> pa.Table:
        """The units that respond to a picture most: first those for which fewest other images have
        a larger response, then those for which it comes nearest to the largest.

        Columns: layer; unit; name; place, how many of the unit's images, scoring and held out,
        have a larger response; rank among its top images, null where it is none of them; response;
        share, of the unit's largest response, null where that is not above zero; maximum,
        position_y, position_x and the box of its receptive field, as in `Unit.images`.

        Args:
            image: its id in `images()`.
            layer: of this layer alone; of all where not given.
            limit: rows, at most.

        Raises:
            QueryError: no such image or layer, or the image was left out.
        """
        layers = self.layers if layer is None else (self.layer(layer).name,)
        return responding(self, image, layers=layers, limit=limit)

    def search(self, text: str, *, limit: int = 20) -> pa.Table:
        """What has a name like `text`, whatever its case: layers, units (`12`, `LAYER/12`),
        directions, labels, and pictures by file name. The same text first, then its start, then
        the start of a word, then any part.

        Columns: kind (layer, unit, direction, label, picture); text, its name; layer, null for
        labels and pictures; unit, null but for units and directions; image, null but for pictures;
        count, units of a layer or images of a label, null for the others.

        Raises:
            QueryError: `text` is longer than 256 characters, or `limit` no number from 1 up.
        """
        return search(self, text, limit=limit)

    def sql(self, query: str) -> pa.Table:
        """Ask the atlas' tables in SQL; needs DuckDB, `pip install 'circuit-atlas[analysis]'`.

        ```python
        atlas.sql("SELECT layer, unit, pearson FROM faithfulness WHERE fraction = 0.1")
        ```

        The tables are `images` and `layers`, as `images()` and `status()` give them, and over all
        layers, with the columns `layer` and `unit` first: `units` as `Layer.units`, `responses`,
        `faithfulness`, `subfeatures`, `groups` and `selectivity`, column by column in the store's
        schema page. Of these, the tables that the query names are read whole. One SELECT, which
        reads no files and no network; it has 1 GB of memory beside the tables.

        Raises:
            QueryError: DuckDB is not installed, the query is no single SELECT, names no table of
                these, fails or needs more memory, or the atlas is too old for one of the tables.
        """
        return sql(self, query)

    def feature_visualizations(
        self, convolution: str, channel: int
    ) -> tuple[FeatureVisualization, ...]:
        """Pictures made to drive an output channel of a convolution upstream of a layer; empty
        where `circuit-atlas features` has made none. Those of a unit:
        `Unit.feature_visualizations`.

        QueryError where no layer of the atlas has such a convolution or channel upstream.
        """
        upstream = {
            found.name: found.out_channels
            for name in self.layers
            for found in self.reader.layer(name).index.convolutions
        }
        if convolution not in upstream:
            raise QueryError(
                f"no layer of {self.place} has a convolution {convolution!r} upstream: "
                + nearest(convolution, upstream, what="convolutions")
            )
        number = whole(channel, what="channel")
        if not 0 <= number < upstream[convolution]:
            raise QueryError(
                f"{convolution} has no channel {number}: it has {upstream[convolution]}, from 0"
            )
        records = self.reader.feature_visualizations(convolution, number)
        return tuple(FeatureVisualization(record, self.reader) for record in records)

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

    def visualization_status(self) -> pa.Table:
        """How far visualizations are, one row a layer and one a convolution whose channels get
        some; no row where `circuit-atlas features` never ran.

        Columns: layer, or the convolution's name; of, unit or channel; how many were planned, by
        any run; are done, with all their pictures; failed, where an attempt at what they lack did;
        and are missing, not tried yet; pictures that are there, and pictures_planned.
        """
        return visualization_status.by_layer(self.reader.visualization_states())

    def visualization_failures(self) -> pa.Table:
        """Why visualizations failed, one row a unit or channel: layer, or the convolution's name;
        of, unit or channel; unit, its number; name; kind of the error, and its message in a line.

        The latest attempt counts; what was made since is not listed.
        """
        return visualization_status.failures(self.reader.visualization_states(), self.reader)

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

    def features(self) -> pa.Table:
        """How far its units' visualizations are, one row a unit that was to get some: unit, name,
        state (done, with all that was asked for; failed; or missing, some are still to be made),
        pictures that are there, pictures_planned, error (null unless failed).

        The pictures: `Unit.feature_visualizations`. Of channels of convolutions:
        `Atlas.visualization_status`.
        """
        reader = self.atlas.reader
        return visualization_status.of_layer(reader.visualization_states(), self.name, reader)

    def faithfulness(self) -> pa.Table:
        """How well the circuits of all units preserve their responses; a `unit` column first."""
        return self.atlas.reader.table(self.name, "faithfulness")

    def responses(self) -> pa.Table:
        """What each image does to each unit; a `unit` column first."""
        return self.atlas.reader.table(self.name, "responses")

    def subfeatures(self) -> pa.Table:
        """How well the circuits of single images do; a `unit` column first."""
        return self.atlas.reader.table(self.name, "subfeatures")

    def summary(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = 0.9,
        polysemanticity: pa.Table | None = None,
    ) -> pa.Table:
        """One row a unit that was asked for or is stored, ascending.

        Columns: unit; name; state; kernels that can reach it, null unless done or dead;
        smallest_level, smallest_fraction and smallest_kernels of the smallest circuit whose r
        reaches the threshold, null where none does; r, a list with one value a level, the largest
        circuit first, null where undefined, and no list unless done; groups of the criterion's
        sub-features and their silhouette, null where there are none; polysemanticity, null unless
        given; image, response, maximum, position_y, position_x and box of the first top image, null
        where the unit has none; error, null unless failed.

        Args:
            criterion: the score that chose the circuits; the atlas' first where not given.
            ablation: what stood for dropped kernels; the atlas' first.
            split: of the images that r was measured on; `held_out` where there are such.
            threshold: the Pearson r that is enough, from -1 to 1.
            polysemanticity: what `polysemanticity()` gave, which takes longer than all the rest.

        Raises:
            QueryError: no such criterion, ablation, split or threshold.
        """
        chosen = CircuitQuery.of(
            self, criterion=criterion, ablation=ablation, split=split, threshold=threshold
        )
        return summary(self, LayerTables.read(self), chosen, polysemanticity=polysemanticity)

    def distribution(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = 0.9,
    ) -> pa.Table:
        """How r is spread over the layer's units that are done, one row a sparsity level.

        Columns: level; fraction; units; undefined, those whose r is undefined there, which counts
        as 0; reached, those whose r reaches the threshold; smallest, those for which this is the
        smallest circuit that does; low, quarter, median, three_quarters and high, the 10th, 25th,
        50th, 75th and 90th percentile of r, null where no unit is done. Arguments and errors as in
        `summary`.
        """
        chosen = CircuitQuery.of(
            self, criterion=criterion, ablation=ablation, split=split, threshold=threshold
        )
        return distribution(self, LayerTables.read(self), chosen)

    def polysemanticity(self, *, criterion: str | None = None, keep: float = KEEP) -> pa.Table:
        """How polysemantic its units are, see `Unit.polysemanticity`, by their stored groups.

        One row a unit that is done. Columns: unit; name; groups; silhouette of the groups, null for
        one; polysemanticity, null where it is undefined. Reads and ranks the scores of every top
        image, some ten milliseconds a unit. Errors as of `Unit.polysemanticity`.
        """
        return polysemanticity(self, criterion=criterion, keep=keep)

    def masks(self, *, keep: float = 0.1, criterion: str | None = None) -> Masks:
        """The circuits of all its units, read once, to ask several things of; see `Masks`."""
        return Masks(self, keep=keep, criterion=criterion).add_all()

    def similarity(
        self, *, keep: float = 0.1, criterion: str | None = None, by_convolution: bool = False
    ) -> Similarity:
        """Intersection over union of the circuits of all pairs of its units.

        Args:
            keep: the fraction that all circuits keep, as in `Unit.circuit`.
            criterion: the score that chose them; the atlas' first where not given.
            by_convolution: also in each convolution; takes as much memory for each as for all.

        Raises:
            QueryError: no such criterion or fraction, or the pairs take more than 1 GiB.
        """
        return of_masks(self.masks(keep=keep, criterion=criterion), by_convolution=by_convolution)

    def uses(
        self,
        convolution: str,
        *,
        out: int | None = None,
        channel: int | None = None,
        keep: float = 0.1,
        criterion: str | None = None,
    ) -> pa.Table:
        """Which units' circuits hold kernels of a convolution: any of its kernels where neither
        `out` nor `channel` is given, of those that make output channel `out`, of those that read
        input channel `channel`, or the one of both.

        One row a unit whose circuit holds any, the largest share first, then most kernels, then by
        number. Columns: unit; name; kernels, how many of these it holds; share, of the sum of the
        scores of all its kernels, null where that is 0; rank, how many of its kernels stand before
        the best of these, ties by position.

        Args:
            convolution: its name on the layer's kernel axis.
            out: output channel; any where not given.
            channel: input channel, over all channels of the convolution's input; any where not
                given.
            keep: the fraction that all circuits keep.
            criterion: the score that chose them; the atlas' first where not given.

        Raises:
            QueryError: no such convolution, channel, kernel, criterion or fraction.
        """
        return uses(
            self.masks(keep=keep, criterion=criterion),
            convolution=convolution,
            out=out,
            channel=channel,
        )

    def __repr__(self) -> str:
        i = self.index
        return (
            f"<Layer {self.name} of {self.atlas.header.model}: {len(i.units)} units, "
            f"{i.height} x {i.width} positions, {i.index.size:,} kernels in "
            f"{len(i.index.convolutions)} convolutions>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.units(), caption=repr(self)[1:-1])
