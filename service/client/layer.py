"""One layer of an atlas: its units, and what their circuits say together."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.kernel_axis import axis_table
from circuit_atlas.service.analysis.layer_arrays import LayerArray, layer_masks, layer_scores
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.polysemanticity import of_layer as polysemanticity
from circuit_atlas.service.analysis.query import THRESHOLD, CircuitQuery
from circuit_atlas.service.analysis.similarity import Similarity, of_masks
from circuit_atlas.service.analysis.summary import distribution, summary, unit_table
from circuit_atlas.service.analysis.units import LayerStates, find_unit
from circuit_atlas.service.analysis.uses import uses
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.plots import plot_bands
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Layer:
    """Is one layer of an atlas. It sees the units that are stored when it is asked."""

    def __init__(self, reader: Reader, index: LayerIndex) -> None:
        self.reader = reader
        self.index = index

    @property
    def name(self) -> str:
        """Return the module's path in the model."""
        return self.index.layer

    def unit(self, which: int | str) -> Unit:
        """Return a unit by its number, also as text, or a direction by its name, whatever its
        state.

        QueryError where the layer has no such unit, with the range or the nearest names.
        """
        return Unit(self.reader, self.index, find_unit(self.index, which))

    def __getitem__(self, which: int | str) -> Unit:
        """Return `unit(which)`."""
        return self.unit(which)

    def __len__(self) -> int:
        """How many units were asked for or are stored."""
        return len(LayerStates.read(self.reader, self.index).numbers)

    def __iter__(self) -> Iterator[Unit]:
        """Give the units that were asked for or are stored, by number, whatever their state."""
        for number in LayerStates.read(self.reader, self.index).numbers:
            yield self.unit(number)

    def units(self) -> AtlasTable:
        """Return one row for each unit that was asked for or is stored: unit, name, unit_label
        (what it stands for, null where nothing says so), state (done, dead, failed or planned),
        reachable_kernels, those that can reach it (null unless done or dead), error (null unless
        failed)."""
        return AtlasTable(LayerStates.read(self.reader, self.index).table())

    def features(self) -> AtlasTable:
        """Tell how far its units' visualizations are, one row a unit that was to get some: unit,
        name, state (done, with all that was asked for; failed; or missing, some are still to be
        made), visualizations that are there, visualizations_planned, error (null unless failed).

        The visualizations: `Unit.feature_visualizations`. Of channels of convolutions:
        `Atlas.visualization_status`.
        """
        states = self.reader.visualization_states()
        return AtlasTable(visualization_status.of_layer(states, self.name, self.reader))

    def faithfulness(self) -> AtlasTable:
        """Tell how well the circuits of all units preserve their responses; a `unit` column
        first."""
        return AtlasTable(self.reader.table(self.name, "faithfulness"))

    def responses(self) -> AtlasTable:
        """Tell what each image does to each unit; a `unit` column first."""
        return AtlasTable(self.reader.table(self.name, "responses"))

    def subfeatures(self) -> AtlasTable:
        """Tell how well the circuits of single images do; a `unit` column first."""
        return AtlasTable(self.reader.table(self.name, "subfeatures"))

    def summary(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = THRESHOLD,
        polysemanticity: AtlasTable | None = None,
    ) -> AtlasTable:
        """Return one row for each unit that was asked for or is stored, ascending.

        Columns: unit; name; unit_label, what it stands for, null where nothing says so; state;
        reachable_kernels, those that can reach it, null unless done or dead; level, fraction and
        kernels, the sparsity level, kept fraction and number of kernels of the smallest circuit
        whose r reaches the threshold, null where none does; r, a list with one value a level, the
        largest circuit first, null where undefined, and no list unless done; groups of the
        criterion's sub-features and their silhouette, null where there are none; polysemanticity,
        null where it is undefined or the unit is not sealed yet; image, response, maximum,
        position_y, position_x and box of the first top image, null where the unit has none; error,
        null unless failed.

        Args:
            criterion: the score that chose the circuits. Default: the atlas' first.
            ablation: what stood for dropped kernels. Default: the atlas' first.
            split: of the images that r was measured on. Default: `held_out` where there are such.
            threshold: the Pearson r that is enough, from -1 to 1.
            polysemanticity: what `polysemanticity()` gave, which takes longer than all the rest and
                tells of units that are not sealed, too. Default: what was stored as the layer was
                sealed.

        Raises:
            QueryError: no such criterion, ablation, split or threshold.
        """
        query = CircuitQuery.of(
            self.reader, criterion=criterion, ablation=ablation, split=split, threshold=threshold
        )
        facts, states = self._facts()
        if not isinstance(polysemanticity, AtlasTable | None):
            raise QueryError(
                f"polysemanticity={polysemanticity!r} is no table: give what "
                "layer.polysemanticity() gave, or leave it out"
            )
        given = None if polysemanticity is None else polysemanticity.to_arrow()
        table = unit_table(facts, states, query, polysemanticity=given)
        return AtlasTable(summary(table, self.reader.header.fractions))

    def distribution(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = THRESHOLD,
    ) -> AtlasTable:
        """Tell how r is spread over the layer's units that are done, one row a sparsity level.

        Columns: level; fraction; units; undefined, those whose r is undefined there, which counts
        as 0; silent, those whose circuit never fires there where the network does; reached, those
        whose r reaches the threshold; smallest, those for which this is the smallest circuit that
        does; low, quarter, median, three_quarters and high, the 10th, 25th, 50th, 75th and 90th
        percentile of r, null where no unit is done. Arguments and errors as in
        `summary`.
        """
        query = CircuitQuery.of(
            self.reader, criterion=criterion, ablation=ablation, split=split, threshold=threshold
        )
        return AtlasTable(distribution(*self._facts(), query))

    def polysemanticity(self, *, criterion: str | None = None, keep: float = KEEP) -> AtlasTable:
        """Tell how polysemantic its units are, see `Unit.polysemanticity`, by their stored groups.

        One row a unit that is done. Columns: unit; name; groups; silhouette of the groups, null for
        one; polysemanticity, null where it is undefined. Reads and ranks the scores of every top
        image, some ten milliseconds a unit. Errors as of `Unit.polysemanticity`.
        """
        return AtlasTable(polysemanticity(self.reader, self.index, criterion=criterion, keep=keep))

    def masks(self, *, keep: float = KEEP, criterion: str | None = None) -> LayerArray:
        """Return the circuits of all its units as one array of bool (units, kernels), of which a
        block of units is read when it is asked for.

        ```python
        masks = layer.masks(keep=0.1)
        shared = sum(rows.sum(axis=0) for units, rows in masks.blocks())
        ```

        The second axis is the layer's kernel axis: `kernels()` says what lies there.

        Args:
            keep: the fraction that all circuits keep, as in `Unit.circuit`.
            criterion: the score that chose them. Default: the atlas' first.

        Raises:
            QueryError: no such criterion or fraction.
        """
        return layer_masks(self.reader, self.index, criterion=criterion, keep=keep)

    def scores(self, *, criterion: str | None = None, keep: float | None = None) -> LayerArray:
        """Return the scores of all its units as one array of float32 (units, kernels), NaN where a
        kernel cannot reach the unit; read as `masks`.

        Args:
            criterion: which score. Default: the atlas' first.
            keep: the kept fraction whose circuits the score chose, where each has its own, as of
                `force`. Default: the first.

        Raises:
            QueryError: no such criterion or fraction.
        """
        return layer_scores(self.reader, self.index, criterion=criterion, keep=keep)

    def kernels(self) -> AtlasTable:
        """Return one row for each position of the layer's kernel axis: position; convolution;
        out_channel, null where each unit has its own output channel there; in_channel, over all
        channels of the convolution's input, null where that depends on the unit, too."""
        return AtlasTable(axis_table(self.index.index))

    def plot_faithfulness(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        axes: Axes | None = None,
    ) -> Axes:
        """Plot how r is spread over its units, by the fraction of kernels that their circuits keep:
        the median, and the middle half and four fifths of the units; an undefined r counts as 0.

        Needs matplotlib. Arguments and errors as of `distribution`, and QueryError where matplotlib
        is not installed, or no unit is done.
        """
        found = self.distribution(criterion=criterion, ablation=ablation, split=split).to_pydict()
        if not any(found["units"]):
            raise QueryError(
                f"layer {self.name!r} has no unit that is done: nothing can be plotted"
            )
        return plot_bands(found["fraction"], found, title=self.name, axes=axes)

    def similarity(
        self, *, keep: float = KEEP, criterion: str | None = None, by_convolution: bool = False
    ) -> Similarity:
        """Return the intersection over union of the circuits of all pairs of its units.

        Args:
            keep: the fraction that all circuits keep, as in `Unit.circuit`.
            criterion: the score that chose them. Default: the atlas' first.
            by_convolution: also in each convolution; takes as much memory for each as for all.

        Raises:
            QueryError: no such criterion or fraction, or the pairs take more than 1 GiB.
        """
        masks = Masks(self.reader, self.index, keep=keep, criterion=criterion).add_all()
        return of_masks(masks, by_convolution=by_convolution)

    def uses(
        self,
        convolution: str,
        *,
        out: int | None = None,
        channel: int | None = None,
        keep: float = KEEP,
        criterion: str | None = None,
    ) -> AtlasTable:
        """Tell which units' circuits hold kernels of a convolution: any of its kernels where
        neither `out` nor `channel` is given, of those that make output channel `out`, of those that
        read input channel `channel`, or the one of both.

        One row a unit whose circuit holds any, the largest share first, then most kernels, then by
        number. Columns: unit; name; kernels, how many of these it holds; share, of the sum of the
        scores of all its kernels, null where that is 0; rank, how many of its kernels stand before
        the best of these, ties by position.

        Args:
            convolution: its name on the layer's kernel axis.
            out: output channel. Default: any.
            channel: input channel, over all channels of the convolution's input. Default: any.
            keep: the fraction that all circuits keep.
            criterion: the score that chose them. Default: the atlas' first.

        Raises:
            QueryError: no such convolution, channel, kernel, criterion or fraction.
        """
        masks = Masks(self.reader, self.index, keep=keep, criterion=criterion).add_all()
        return AtlasTable(uses(masks, convolution=convolution, out=out, channel=channel))

    def _facts(self) -> tuple[LayerFacts, LayerStates]:
        """All that is stored of its units now, but for the responses to each image."""
        states = LayerStates.read(self.reader, self.index)
        facts = LayerFacts(self.reader, self.index)
        facts.read(states.commits)
        return facts, states

    def __repr__(self) -> str:
        i = self.index
        return (
            f"<Layer {self.name} of {self.reader.header.model}: {len(i.units)} units, "
            f"{i.height} x {i.width} positions, {i.index.size:,} kernels in "
            f"{len(i.index.convolutions)} convolutions>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.units().to_arrow(), caption=repr(self)[1:-1])
