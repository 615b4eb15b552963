"""A finished or growing atlas, read: the atlas, its layers, their units.

```python
from circuit_atlas.service import Atlas

unit = Atlas.open("circuit-atlas-demo")["features.7.expand3x3"][64]
unit.circuit(0.1).kernels().to_pandas()
```
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from circuit_atlas.service.analysis.arguments import whole
from circuit_atlas.service.analysis.channel import channel_kernels
from circuit_atlas.service.analysis.opened_circuit import open_circuit
from circuit_atlas.service.analysis.responding import responding
from circuit_atlas.service.analysis.search import search
from circuit_atlas.service.analysis.sql import sql
from circuit_atlas.service.analysis.units import LayerStates, layer_counts
from circuit_atlas.service.circuit.ablation import require_torch
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.checkpoints import Checkpoints
from circuit_atlas.service.client.feature_visualization import FeatureVisualization
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.comparison.comparison import Comparison, compare
from circuit_atlas.service.comparison.query import DRAWS, ComparisonQuery
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.image_table import FILE
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import nearest

if TYPE_CHECKING:
    from torch import Tensor, nn


class Atlas:
    """Is an atlas, opened for reading. Nothing here writes, and `load_model` alone loads a
    model."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @classmethod
    def open(cls, location: str | Path) -> Atlas:
        """Open a folder, a URL such as `s3://bucket/atlas`, or the address that
        `circuit-atlas serve` printed; StoreError where there is none."""
        return cls(Reader(location))

    @property
    def location(self) -> str:
        """Return the folder or URL."""
        return self.reader.objects.location

    @property
    def header(self) -> AtlasHeader:
        """Tell what the atlas was built from."""
        return self.reader.header

    @property
    def layers(self) -> tuple[str, ...]:
        """Return the names of the layers, sorted."""
        return self.reader.layers()

    def layer(self, name: str) -> Layer:
        """Return a layer by name; QueryError, with the nearest names, where the atlas has none
        such."""
        known = self.layers
        if not isinstance(name, str) or name not in known:
            raise QueryError(
                f"{self.location} has no layer {name!r}: {nearest(name, known, what='layers')}"
            )
        return Layer(self.reader, self.reader.layer(name))

    def __getitem__(self, name: str) -> Layer:
        """Return `layer(name)`."""
        return self.layer(name)

    def __len__(self) -> int:
        """How many layers."""
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        """Give the layers, by name."""
        return (self.layer(name) for name in self.layers)

    def load_circuit(self, path: str | Path) -> Circuit:
        """Read a circuit that `Circuit.save` wrote, or that the map of a unit's page saved as JSON.

        Raises:
            QueryError: the file holds none, or one of other weights, a layer or unit that the atlas
                lacks, or kernels that cannot reach the unit.
        """
        return open_circuit(self.reader, path)

    def load_model(
        self, *, weights: str | Path | None = None, trust_code: bool = False
    ) -> nn.Module:
        """Load the model that the atlas was built from, in evaluation mode on the processor.

        Args:
            weights: the file of its weights, where it was built with such; an atlas does not say
                where one lies. Default: the model's own.
            trust_code: run the function that the atlas names as its model. Default: only models of
                torchvision, timm and the demo are loaded, since an atlas may come from anyone.

        Raises:
            QueryError: torch is not installed.
            ModelError: the model or the file cannot be loaded, is code that is not trusted, or has
                other weights than the atlas was built from.
            CorruptError: the atlas names no model.
        """
        require_torch("the model of an atlas is")
        from circuit_atlas.service.compute.atlas_model import load_atlas_model

        return load_atlas_model(self.reader, weights=weights, trust_code=trust_code)

    def image_tensor(self, images: Sequence[int]) -> Tensor:
        """Return images as the network of the atlas takes them: the pixels that it was built from,
        less the mean and divided by the standard deviation of its preprocessing.

        Args:
            images: their ids in `images()`, in any order.

        Returns:
            float32. Shape: (images, channels, height, width).

        Raises:
            QueryError: torch is not installed, or the atlas is too old to have pixels.
            ImageError: there is no such image, or it was left out.
            CorruptError: the pixels are missing or altered.
        """
        require_torch("images of an atlas become input of")
        from circuit_atlas.service.compute.image_tensor import image_tensor

        return image_tensor(self.reader, images)

    def images(self, *, files: bool = False) -> AtlasTable:
        """Return the image set, one row an image, those left out included.

        Args:
            files: with a column `file` of JPEG bytes, each image as the network sees it.
        """
        table = self.reader.images()
        if not files:
            return AtlasTable(table)
        jpegs = self.reader.jpegs(range(len(table)))
        column = pa.array([jpegs[image] for image in range(len(table))], FILE.type)
        return AtlasTable(table.append_column(FILE.field(), column))

    def compare(
        self, other: Atlas, *, keep: float = KEEP, criterion: str | None = None
    ) -> Checkpoints:
        """Hold the circuits of two checkpoints against each other: another atlas of the same
        network with other weights.

        ```python
        found = Atlas.open("epoch-10").compare(Atlas.open("epoch-90"))
        found.units()  # IoU of each unit's two circuits, and whether it kept its circuit
        found.drawing("features.7.expand3x3", 64)  # side by side
        ```

        Args:
            other: the other atlas.
            keep: the fraction that all circuits keep.
            criterion: the score that chose them. Default: this atlas' first.

        Raises:
            QueryError: the other is no atlas, no layer is in both, or one is of other convolutions;
                no such criterion or fraction.
        """
        if not isinstance(other, Atlas):
            raise QueryError(f"{other!r} is no atlas: give one, as Atlas.open opens it")
        return Checkpoints.of(self.reader, other.reader, keep=keep, criterion=criterion)

    def compare_criteria(
        self,
        *,
        layer: str | None = None,
        units: Sequence[int | str] | None = None,
        criteria: Sequence[str] | None = None,
        ablation: str | None = None,
        keep: float | None = None,
        draws: int = DRAWS,
        seed: int = 0,
    ) -> Comparison:
        """Hold the criteria against each other: what the circuits that each chooses preserve, over
        the units of a layer.

        ```python
        found = atlas.compare_criteria(criteria=["learned", "actgrad", "random"])
        found.areas.to_pandas()
        found.save("comparison")
        ```

        Medians over units at each kept fraction, on scoring and on held-out images, with 95 %
        intervals by the percentile bootstrap (Efron 1979) over units, and over images where units
        were built with `image_sums = true` under `[run]`; for how many units each criterion is the
        best, and how many are tied; the area under r over the logarithm of the fraction; silent
        circuits; kernels that act; cost. See `Comparison`. Undefined r counts as 0.

        Args:
            layer: its name. Default: the atlas' only one.
            units: numbers or names of directions. Default: all that are done.
            criteria: two or more, in this order. Default: all of the atlas.
            ablation: what stood for dropped kernels. Default: the atlas' first.
            keep: the stored fraction that the report's text tells of. Default: the nearest to a
                tenth.
            draws: of each bootstrap.
            seed: of the draws: the same seed gives the same intervals.

        Raises:
            QueryError: there is no such layer, unit, criterion, ablation or fraction, there are
                several layers and none is named, fewer than two criteria, or no unit is done.
        """
        known = self.layers
        if layer is None and len(known) != 1:
            raise QueryError(
                f"{self.location} has {len(known)} layers: give layer="
                + " or ".join(repr(name) for name in known[:4])
                if known
                else f"{self.location} has no layers yet: run its build first"
            )
        index = self.layer(known[0] if layer is None else layer).index
        query = ComparisonQuery.of(
            self.reader, criteria=criteria, ablation=ablation, keep=keep, draws=draws, seed=seed
        )
        return compare(self.reader, LayerStates.read(self.reader, index), query, units=units)

    def responding(self, image: int, *, layer: str | None = None, limit: int = 20) -> AtlasTable:
        """Return the units that respond to an image most: first those for which fewest other
        images have a larger response, then those for which it comes nearest to the largest.

        Columns: layer; unit; name; unit_label, what it stands for, or null; rank, how many of the
        unit's images, scoring and held out, have a larger response; top_rank, that among its top
        images, null where it is none of them; response; share, of the unit's largest response, null
        where that is not above zero; maximum, position_y, position_x and the box of its receptive
        field, as in `Unit.top_images`.

        Args:
            image: its id in `images()`.
            layer: of this layer alone. Default: of all.
            limit: rows, at most.

        Raises:
            QueryError: no such image or layer, or the image was left out.
        """
        layers = self.layers if layer is None else (self.layer(layer).name,)
        return AtlasTable(responding(self.reader, image, layers=layers, limit=limit))

    def search(self, text: str, *, limit: int = 20) -> AtlasTable:
        """Find what has a name like `text`, whatever its case: layers, also by several parts of
        their names, the units that are stored (`12`, `unit 12`, `LAYER/12`, or by what they stand
        for), directions, labels of images, and images by file name. The same
        text first, then its start, then the start of a word, then any part.

        Columns: kind (layer, unit, direction, label, image); text, its name, and what a unit stands
        for; layer, null for labels and images; unit, null but for units and directions; image, null
        but for images; count, units of a layer or images of a label, null for the others.

        Raises:
            QueryError: `text` is longer than 256 characters, or `limit` no number from 1 up.
        """
        return AtlasTable(search(self.reader, text, limit=limit))

    def channel_kernels(self, convolution: str, channel: int) -> AtlasTable:
        """List the kernels that make an output channel of a convolution, and those that read it, of
        the networks of all layers: the kernels in first, by descending weight_norm, then those out.

        Columns: end (`in`, `out`); convolution, whose kernel it is; out_channel and in_channel, the
        latter over all groups; source, the convolution at its start, null for the image;
        source_channel, null where several are mixed before it; weight_norm, the square root of the
        sum of its squared weights; weight_sum, the sum of its weights; both null where the weights
        are unknown. Where a kernel's input is a sum of channels, it has a row for each.

        Raises:
            QueryError: no layer's network has that channel, or the atlas is an old one.
        """
        number = whole(channel, what="channel")
        found = channel_kernels(self.reader, convolution=convolution, channel=number)
        return AtlasTable(found)

    def sql(self, query: str) -> AtlasTable:
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
        return AtlasTable(sql(self.reader, query))

    def feature_visualizations(
        self, convolution: str, channel: int
    ) -> tuple[FeatureVisualization, ...]:
        """Return images made to drive an output channel of a convolution upstream of a layer;
        empty where `circuit-atlas features` has made none. Those of a unit:
        `Unit.feature_visualizations`.

        QueryError where no layer of the atlas has such a convolution or channel upstream.
        """
        upstream = {
            c.name: c.out_channels
            for name in self.layers
            for c in self.reader.layer(name).index.convolutions
        }
        if convolution not in upstream:
            raise QueryError(
                f"no layer of {self.location} has a convolution {convolution!r} upstream: "
                + nearest(convolution, upstream, what="convolutions")
            )
        number = whole(channel, what="channel")
        if not 0 <= number < upstream[convolution]:
            raise QueryError(
                f"{convolution} has no channel {number}: it has {upstream[convolution]}, from 0"
            )
        records = self.reader.feature_visualizations(convolution, number)
        return tuple(FeatureVisualization(record, self.reader) for record in records)

    def status(self) -> AtlasTable:
        """Return one row for each layer: its name and how many units were asked for, are done, dead
        (their response never changes), failed, and neither of these yet (missing)."""
        return AtlasTable(layer_counts(self.reader))

    def visualization_status(self) -> AtlasTable:
        """Tell how far visualizations are, one row a layer and one a convolution whose channels get
        some; no row where `circuit-atlas features` never ran.

        Columns: layer, or the convolution's name; of, unit or channel; how many were planned, by
        any run; are done, with all their visualizations; failed, where an attempt at what they lack
        did; and are missing, not tried yet; visualizations that are there, and
        visualizations_planned.
        """
        return AtlasTable(visualization_status.by_layer(self.reader.visualization_states()))

    def visualization_failures(self) -> AtlasTable:
        """Tell why visualizations failed, one row a unit or channel: layer, or the convolution's
        name; of, unit or channel; unit, its number; name; kind of the error, and its message in a
        line.

        The latest attempt counts; what was made since is not listed.
        """
        return AtlasTable(
            visualization_status.failures(self.reader.visualization_states(), self.reader)
        )

    def __repr__(self) -> str:
        layers = self.layers
        what = f"layer {layers[0]}" if len(layers) == 1 else f"{len(layers)} layers"
        criteria = ", ".join(self.header.criteria)
        return f"<Atlas {self.location}: {self.header.model}, {what}, {criteria}>"

    def _repr_html_(self) -> str:
        return html_table(self.status().to_arrow(), caption=repr(self)[1:-1])
