"""One layer of an atlas: its units, and what their circuits say together."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.polysemanticity import of_layer as polysemanticity
from circuit_atlas.service.analysis.query import THRESHOLD, CircuitQuery
from circuit_atlas.service.analysis.similarity import Similarity, of_masks
from circuit_atlas.service.analysis.summary import distribution, summary, unit_table
from circuit_atlas.service.analysis.units import LayerStates, find_unit
from circuit_atlas.service.analysis.uses import uses
from circuit_atlas.service.circuit.display import html_table
from circuit_atlas.service.client import visualization_status
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader


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

    def units(self) -> pa.Table:
        """Return one row for each unit that was asked for or is stored: unit, name, unit_label
        (what it stands for, null where nothing says so), state (done, dead, failed or planned),
        kernels that can reach it (null unless done or dead), error (null
        unless failed)."""
        return LayerStates.read(self.reader, self.index).table()

    def features(self) -> pa.Table:
        """Tell how far its units' visualizations are, one row a unit that was to get some: unit,
        name, state (done, with all that was asked for; failed; or missing, some are still to be
        made), visualizations that are there, visualizations_planned, error (null unless failed).

        The visualizations: `Unit.feature_visualizations`. Of channels of convolutions:
        `Atlas.visualization_status`.
        """
        states = self.reader.visualization_states()
        return visualization_status.of_layer(states, self.name, self.reader)

    def faithfulness(self) -> pa.Table:
        """Tell how well the circuits of all units preserve their responses; a `unit` column
        first."""
        return self.reader.table(self.name, "faithfulness")

    def responses(self) -> pa.Table:
        """Tell what each image does to each unit; a `unit` column first."""
        return self.reader.table(self.name, "responses")

    def subfeatures(self) -> pa.Table:
        """Tell how well the circuits of single images do; a `unit` column first."""
        return self.reader.table(self.name, "subfeatures")

    def summary(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = THRESHOLD,
        polysemanticity: pa.Table | None = None,
    ) -> pa.Table:
        """Return one row for each unit that was asked for or is stored, ascending.

        Columns: unit; name; unit_label, what it stands for, null where nothing says so; state;
        kernels that can reach it, null unless done or dead; level, keep
        and circuit_kernels, the sparsity level, kept fraction and kernels of the smallest circuit
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
        table = unit_table(facts, states, query, polysemanticity=polysemanticity)
        return summary(table, self.reader.header.fractions)

    def distribution(
        self,
        *,
        criterion: str | None = None,
        ablation: str | None = None,
        split: str | None = None,
        threshold: float = THRESHOLD,
    ) -> pa.Table:
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
        return distribution(*self._facts(), query)

    def polysemanticity(self, *, criterion: str | None = None, keep: float = KEEP) -> pa.Table:
        """Tell how polysemantic its units are, see `Unit.polysemanticity`, by their stored groups.

        One row a unit that is done. Columns: unit; name; groups; silhouette of the groups, null for
        one; polysemanticity, null where it is undefined. Reads and ranks the scores of every top
        image, some ten milliseconds a unit. Errors as of `Unit.polysemanticity`.
        """
        return polysemanticity(self.reader, self.index, criterion=criterion, keep=keep)

    def masks(self, *, keep: float = KEEP, criterion: str | None = None) -> Masks:
        """Return the circuits of all its units, read once, to ask several things of; see
        `Masks`."""
        return Masks(self.reader, self.index, keep=keep, criterion=criterion).add_all()

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
        return of_masks(self.masks(keep=keep, criterion=criterion), by_convolution=by_convolution)

    def uses(
        self,
        convolution: str,
        *,
        out: int | None = None,
        channel: int | None = None,
        keep: float = KEEP,
        criterion: str | None = None,
    ) -> pa.Table:
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
        return uses(
            self.masks(keep=keep, criterion=criterion),
            convolution=convolution,
            out=out,
            channel=channel,
        )

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
        return html_table(self.units(), caption=repr(self)[1:-1])
