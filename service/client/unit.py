"""One unit of a layer: its circuits, its images, and how well its circuits do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Literal

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.faithfulness_curves import faithfulness_curves
from circuit_atlas.service.analysis.groups import new_groups, stored_groups
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.polysemanticity import UnitPolysemanticity, of_groups
from circuit_atlas.service.analysis.projection import projection
from circuit_atlas.service.analysis.response_distribution import (
    ResponseDistribution,
    response_distribution,
)
from circuit_atlas.service.analysis.selectivity import score_selectivity, selectivity
from circuit_atlas.service.analysis.smallest_circuit import smallest_fraction
from circuit_atlas.service.analysis.stability import (
    Certificate,
    Stability,
    certificate_of,
    redrawable,
    stability_of,
)
from circuit_atlas.service.analysis.top_images import top_images
from circuit_atlas.service.analysis.units import stored_commit
from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.circuit.chosen import chosen_circuit
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.selection import select
from circuit_atlas.service.client.feature_visualization import FeatureVisualization
from circuit_atlas.service.client.plots import plot_curves
from circuit_atlas.service.client.top_images import TopImages
from circuit_atlas.service.client.unit_groups import Groups
from circuit_atlas.service.client.unit_html import stored_unit_html
from circuit_atlas.storage_schema.certificate import CONFIDENCE, DELETION, PARTS
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    from matplotlib.axes import Axes

State = Literal["done", "dead", "failed", "planned", "not built"]


class Unit:
    """Is one unit of a layer: a channel, or a named direction over the channels."""

    def __init__(self, reader: Reader, index: LayerIndex, info: UnitInfo) -> None:
        self.reader = reader
        self.index = index
        self.info = info

    @property
    def layer(self) -> str:
        """Return the name of its layer."""
        return self.index.layer

    @property
    def number(self) -> int:
        """Give its number: channels count from 0, directions follow them."""
        return self.info.number

    @property
    def label(self) -> str | None:
        """Tell what it stands for, such as a class; None where nothing says so."""
        return self.reader.labels(self.layer).get(self.number)

    @property
    def name(self) -> str:
        """Return `layer/number`, or `layer/direction`."""
        return f"{self.layer}/{self.info.name}"

    @property
    def state(self) -> State:
        """Tell its state: done; dead, its response never changes; failed; planned; or not built."""
        if self._found is not None:
            return self._found.state
        if self._failure is not None:
            return "failed"
        planned = dict(self.reader.plan().units).get(self.layer, ())
        return "planned" if self.number in planned else "not built"

    @property
    def reachable_kernels(self) -> int:
        """Count the kernels that can reach the unit. QueryError where it is not stored."""
        return self.commit.kernels

    @property
    def commit(self) -> Commit:
        """Return the unit's commit record; QueryError, saying why, where the unit is not stored."""
        return self._found or stored_commit(self.reader, self.index, self.info)

    def circuit(
        self,
        keep: float | None = None,
        *,
        kernels: int | None = None,
        r: float | None = None,
        split: str | None = None,
        criterion: str | None = None,
        images: Sequence[int] | None = None,
    ) -> Circuit:
        """Choose the best kernels of the unit, exactly as many as asked for.

        ```python
        unit.circuit(0.1)  # a tenth of the kernels that can reach the unit
        unit.circuit(kernels=500)
        unit.circuit(r=0.9)  # the smallest stored one that is so faithful
        ```

        A stored fraction gives the stored circuit, any other the best kernels of the stored score,
        ties by position on the kernel axis. With `images`, the score is the mean of the stored
        scores of those images, and no model is needed.

        Args:
            keep: fraction of the kernels that can reach the unit, in (0, 1].
            kernels: or their number.
            r: or the Pearson r that the circuit has to reach, with the atlas' first ablation; of
                the stored fractions that do, the smallest is taken.
            split: with `r`, of the images that it was measured on. Default: `held_out` where there
                are such.
            criterion: one of the atlas' criteria. Default: its first.
            images: ids of some of the unit's top images, see `top_images()`; each counts once.

        Raises:
            QueryError: the unit has no circuit (dead, failed, not built), no such criterion, not
                that many kernels, no circuit that reaches `r` (the error says the most that one
                reaches), or no scores of those images; `force` has the stored fractions only.
        """
        commit = self.commit
        chosen = arguments.criterion(self.reader, criterion)
        if commit.state == "dead":
            raise QueryError(
                f"unit {self.name} is dead: its response is the same on every image, so it has "
                "responses and no circuit"
            )
        if r is not None:
            if keep is not None or kernels is not None or images is not None:
                raise QueryError(
                    "r chooses among the stored circuits of all images: give it without keep, "
                    "kernels and images"
                )
            keep = smallest_fraction(self.reader, commit, r=r, criterion=chosen, split=split)
        elif split is not None:
            raise QueryError("split says where r was measured: give r too, such as r=0.9")
        picked = select(self.reader, commit, chosen, keep=keep, kernels=kernels, images=images)
        which = "" if images is None else f" of images {listed(picked.images)}"
        origin = replace(self._origin(chosen), images=picked.images)
        return chosen_circuit(origin, picked, title=f"{chosen}{which}")

    def faithfulness(self) -> AtlasTable:
        """Tell how well its circuits preserve its response: a row for each criterion, ablation,
        split and sparsity level. Without rows for a dead unit."""
        return AtlasTable(self.reader.faithfulness(self.commit))

    def responses(self) -> AtlasTable:
        """Tell what each image that the unit is computed on does to it, one row an image: all of
        the set, or its own, see `drawn`."""
        return AtlasTable(self.reader.responses(self.commit))

    def distribution(self) -> ResponseDistribution:
        """Tell how its responses are spread over all images that can be used: a histogram, their
        mean and standard deviation, and how many images that is.

        QueryError where the unit is not stored.
        """
        return response_distribution(self.reader, self.commit)

    def subfeatures(self) -> AtlasTable:
        """Tell how well the circuits of its single top images do, each on its image."""
        return AtlasTable(self.reader.subfeatures(self.commit))

    def feature_visualizations(self) -> tuple[FeatureVisualization, ...]:
        """List the images made to drive it, and those made to do the opposite: in the whole
        network, then through its circuits. Empty where `circuit-atlas features` has made none."""
        records = self.reader.feature_visualizations(self.layer, self.number)
        return tuple(FeatureVisualization(record, self.reader) for record in records)

    def top_images(self) -> TopImages:
        """List its top images: of all scoring images of the set, those with the largest response,
        best first; in a notebook it shows them.

        Columns: rank, image (its id), name, label, response, maximum; position_y and position_x of
        the maximum in the layer's output; box_top, box_left, box_bottom and box_right of its
        receptive field, in pixels of the network's input, half-open.
        """
        return TopImages(top_images(self.reader, self.commit), self.reader)

    def similar(
        self, *, keep: float = KEEP, criterion: str | None = None, limit: int = 10
    ) -> AtlasTable:
        """List the units of its layer whose circuits share most with its own, most first, ties by
        number.

        Columns: unit; name; iou, kernels of both circuits over kernels of either, 0 to 1; shared,
        kernels of both; kernels, of the other circuit. Reads the circuits of the whole layer; to
        ask for several units, ask `Layer.similarity`.

        Raises:
            QueryError: the unit has no circuit, or no such criterion, fraction or limit.
        """
        one = Masks(self.reader, self.index, keep=keep, criterion=criterion)
        one.add(self.number)  # what is wrong is said before the layer is read
        return AtlasTable(one.add_all().similar(self.number, limit=limit))

    def groups(
        self, *, criterion: str | None = None, groups: int | Literal["auto"] | None = None
    ) -> Groups:
        """Group its top images by the kernels that it computes them by: its sub-features.

        A sequence of groups, each with its images and its circuit: `unit.groups()[0].circuit(
        keep=0.1)`. How images are compared and the number of groups is chosen is said in
        `storage_schema.grouping`.

        Args:
            criterion: whose scores of single images. Default: the atlas' first that has such. The
                groups by `learned`, where `groups = true` in `[learned]` had their circuits
                trained, are those that `actgrad` gives; stored fractions alone have circuits.
            groups: how many, found anew from the stored scores; "auto" for as many as there seem
                to be, found anew. Default: the stored groups.

        Raises:
            QueryError: a dead unit, no such criterion, not that many images, an atlas too old to
                have groups, or scipy is not installed, which finding them anew needs.
        """
        if groups is None:
            return Groups.of(self, stored_groups(self.reader, self.commit, criterion=criterion))
        number = None if groups == "auto" else groups
        return Groups.of(
            self, new_groups(self.reader, self.commit, criterion=criterion, groups=number)
        )

    def polysemanticity(
        self,
        *,
        criterion: str | None = None,
        keep: float = KEEP,
        groups: int | Literal["auto"] | None = None,
    ) -> UnitPolysemanticity:
        """Tell how much less the circuits of images of different groups share than those of one
        group, corrected for what circuits of that size share by chance: `value` is 0 for one
        feature, and 1 for features that have no more in common than any two sets of kernels. The
        definition stands at the top of `storage_schema.polysemanticity`.

        Args:
            criterion: whose scores of single images. Default: the atlas' first that has such.
            keep: the fraction that the images' circuits keep, above 0 and below 1.
            groups: as in `groups`.

        Raises:
            QueryError: as of `groups`, or no such fraction.
        """
        chosen = self.groups(criterion=criterion, groups=groups)
        return of_groups(self.reader, self.commit, chosen.grouping, keep=keep)

    def plot_faithfulness(
        self, *, split: str | None = None, ablation: str | None = None, axes: Axes | None = None
    ) -> Axes:
        """Plot r of its circuits by the fraction of kernels that they keep, a line a criterion.

        Needs matplotlib. A circuit whose r is undefined has no point.

        Args:
            split: of the images. Default: `held_out` where there are such.
            ablation: what stood for dropped kernels. Default: the atlas' first.
            axes: to plot into. Default: new ones.

        Raises:
            QueryError: matplotlib is not installed, the unit is not stored, or no such split or
                ablation.
        """
        curves = faithfulness_curves(self.reader, self.commit, split=split, ablation=ablation)
        return plot_curves(curves, title=self.name, axes=axes)

    def stability(self, *, keep: float = KEEP, criterion: str | None = None) -> Stability:
        """Tell how often each kernel is in the unit's circuit when its images are drawn anew.

        200 times as many of its top images as there are are drawn with replacement, and the circuit
        of their mean score is found: `unit.stability(keep=0.1).core()` is the circuit of the
        kernels that 95 % of them hold. Of `learned`, the circuits of other training seeds stand for
        them, where `seeds` of `[learned]` was above 1. No model is needed: what the build stored is
        read, else it is worked out from the scores of single images, the same. In an atlas whose
        circuits are connected, those of drawn images are not.

        Args:
            keep: the fraction that circuits keep, in (0, 1]. Of `learned`, a stored one.
            criterion: one of the atlas' criteria. Default: the first with scores of single images.

        Raises:
            QueryError: the unit has no circuit or scores of fewer than two images, there is no such
                criterion or fraction, or the criterion has neither scores of single images nor
                trainings from several seeds.
        """
        return stability_of(self._origin(redrawable(self.reader, criterion)), keep=keep)

    def certificate(
        self,
        *,
        keep: float = KEEP,
        criterion: str | None = None,
        edits: int = 1,
        deletion: float = DELETION,
        draws: int = PARTS,
        confidence: float = CONFIDENCE,
    ) -> Certificate:
        """Certify kernels whose place in the unit's circuit no few edits of its images can change.

        An edit deletes one of its top images, or inserts any other image, whatever its scores. What
        is certified is the place in the smoothed circuit, which holds the kernels that are in the
        circuit of more than half of all parts of the images. The theorem stands at the top of
        `storage_schema.certificate`. No model is needed.

        Args:
            keep: the fraction that the circuits of parts keep, in (0, 1].
            criterion: one with scores of single images. Default: the atlas' first.
            edits: how many edits to certify for.
            deletion: the probability with which an image is left out of a part. Up to 1 edit can be
                certified with .7, 3 with .8, 6 with .9; the more, the fewer kernels.
            draws: how many parts are drawn. So many are also the most of which all are looked at,
                as of ten images by default; the certificate is then without chance.
            confidence: the probability that no kernel is certified wrongly, where parts are drawn.

        Raises:
            QueryError: as of `stability`, the criterion has no scores of single images, `edits` is
                too large for `deletion`, or a number is out of range.
        """
        return certificate_of(
            self._origin(redrawable(self.reader, criterion)),
            keep=keep,
            edits=edits,
            deletion=deletion,
            draws=draws,
            confidence=confidence,
        )

    def selectivity(
        self, *, criterion: str | None = None, ablation: str | None = None
    ) -> AtlasTable:
        """Tell how much of the responses to its own images each group's circuit preserves, and how
        much of the responses to the others', on every level: the paper's own comparison.

        One row a group and level, empty where there is one group. Columns: group; level; fraction;
        kernels of the group's circuit; images of the group; others, the unit's other top images;
        preserved, the sum of |r of the circuit| over the group's images over that of |r of the
        whole network|; leaked, the same over the other images, small where the circuit suppresses
        them; selectivity, preserved - leaked. r is the response explained of the unit's output on
        one image, `atlas.header.response` (`sum_abs`: the sum of its absolute values over
        positions), so preserved can be above 1. The three are null where |r| of the whole network
        sums to 0 or there are no such images.

        Args:
            criterion: one that `groups` takes. Default: the atlas' first.
            ablation: what stood for dropped kernels. Default: the atlas' first.

        Raises:
            QueryError: no such criterion or ablation, the unit is not stored, or the atlas is too
                old to have the comparison.
        """
        return AtlasTable(
            selectivity(self.reader, self.commit, criterion=criterion, ablation=ablation)
        )

    def score_selectivity(
        self, groups: Mapping[int, Sequence[int]], *, criterion: str | None = None
    ) -> AtlasTable:
        """Tell how much of its own images' scores the circuit of each of any groups of its top
        images holds, and how much of the others': what can be said of groups whose circuits never
        ran, from stored scores alone.

        Columns as of `selectivity`, where preserved is the sum of the circuit's scores on the
        group's images over that of all kernels, and leaked the same on the other top images.

        Args:
            groups: ids of top images by group, such as `unit.groups(groups=3).grouping.members()`;
                an image may be in several, or in none.
            criterion: one with scores of single images. Default: the atlas' first that has them.

        Raises:
            QueryError: no such criterion, a group without images, or an image that is none of the
                top ones.
        """
        found = score_selectivity(self.reader, self.commit, groups, criterion=criterion)
        return AtlasTable(found)

    def projection(self, *, criterion: str | None = None, method: str = "pca") -> AtlasTable:
        """Map its top images: near each other where it computes them by the same kernels.

        One row an image, by rank. Columns: image; x and y, the first two principal components of
        the images' vectors, each the square root of every kernel's share of the image's scores, so
        without a unit; name; label, null where none is known; rank; response; group, as in
        `groups()`, null where there is none. The table's metadata has criterion, method, and
        explained_variance: JSON of each component's share of the variance, null where the images
        do not differ. Reading the scores takes 20 bytes a kernel and image, the map itself 30 a
        pair of images. `circuit(images=...)` gives the circuit of images picked from the map.

        Raises:
            QueryError: the unit has no circuit, no such criterion or method, or scikit-learn is not
                installed.
        """
        return AtlasTable(projection(self.reader, self.commit, criterion=criterion, method=method))

    def _origin(self, criterion: str) -> Origin:
        """The unit as where a circuit comes from; QueryError where it is not stored."""
        return Origin(self.reader, self.index, self.info, self.commit, criterion)

    @cached_property
    def _found(self) -> Commit | None:
        return self.reader.commit(self.layer, self.number)

    @cached_property
    def _failure(self) -> FailureRecord | None:
        return self.reader.failures(self.layer).get(self.number)

    def __repr__(self) -> str:
        reach = (
            f", {self.reachable_kernels:,} kernels can reach it" if self._found is not None else ""
        )
        return f"<Unit {self.name} of {self.reader.header.model}: {self.state}{reach}>"

    def _repr_html_(self) -> str:
        title = repr(self)[1:-1]
        if self._found is None:
            return f"<p>{escape(title)}</p>"
        return stored_unit_html(
            title,
            label=self.label,
            images=self.top_images(),
            visualizations=self.feature_visualizations(),
            curves=faithfulness_curves(self.reader, self.commit),
            fractions=self.reader.header.fractions,
        )
