"""One unit of a layer: its circuits, its images, and how well its circuits do."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.groups import Groups, new_groups, stored_groups
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.polysemanticity import KEEP, Polysemanticity
from circuit_atlas.service.analysis.polysemanticity import of_unit as polysemanticity_of_unit
from circuit_atlas.service.analysis.projection import projection
from circuit_atlas.service.analysis.selectivity import selectivity
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.display import html_table
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.selection import select
from circuit_atlas.service.client.feature_visualization import FeatureVisualization
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import UnitInfo
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.wording import listed, nearest

if TYPE_CHECKING:
    from circuit_atlas.service.client.atlas import Layer

State = Literal["done", "dead", "failed", "planned", "not built"]


class Unit:
    """One unit of a layer: a channel, or a named direction over the channels."""

    def __init__(self, layer: Layer, info: UnitInfo) -> None:
        self.layer = layer
        self.info = info

    @property
    def number(self) -> int:
        """Channels count from 0, directions follow them."""
        return self.info.number

    @property
    def name(self) -> str:
        """`layer/number`, or `layer/direction`."""
        return f"{self.layer.name}/{self.info.name}"

    @property
    def state(self) -> State:
        """done; dead: its response never changes; failed; planned; or not built."""
        if self._found is not None:
            return self._found.state
        if self._failure is not None:
            return "failed"
        planned = dict(self._reader.plan().units).get(self.layer.name, ())
        return "planned" if self.number in planned else "not built"

    @property
    def reachable_kernels(self) -> int:
        """How many kernels can reach the unit. QueryError where it is not stored."""
        return self.commit.kernels

    @property
    def commit(self) -> Commit:
        """The unit's commit record; QueryError, saying why, where the unit is not stored."""
        found = self._found
        if found is None:
            raise QueryError(self._absence())
        return found

    def circuit(
        self,
        *,
        keep: float | None = None,
        kernels: int | None = None,
        criterion: str | None = None,
        images: Sequence[int] | None = None,
    ) -> Circuit:
        """The best kernels of the unit, exactly as many as asked for.

        A kept fraction of the stored ladder gives the stored circuit, any other the best kernels
        of the stored score, ties by position on the kernel axis. With `images`, the score is the
        mean of the stored scores of those images, and no model is needed.

        Args:
            keep: fraction of the kernels that can reach the unit, in (0, 1].
            kernels: or their number.
            criterion: one of the atlas' criteria; its first where not given.
            images: ids of some of the unit's top images, see `top_images()`; each counts once.

        Raises:
            QueryError: the unit has no circuit (dead, failed, not built), no such criterion, not
                that many kernels, or no scores of those images; `force` has the ladder only.
        """
        header = self.layer.atlas.header
        commit = self.commit
        chosen = header.criteria[0] if criterion is None else criterion
        if chosen not in header.criteria:
            raise QueryError(
                f"{self.layer.atlas.place} has no criterion {chosen!r}: "
                + nearest(chosen, header.criteria, what="criteria")
            )
        if commit.state == "dead":
            raise QueryError(
                f"unit {self.name} is dead: its response is the same on every image, so it has "
                "responses and no circuit"
            )
        picked = select(self._reader, commit, chosen, keep=keep, kernels=kernels, images=images)
        ids = self.layer.index.index.full_ids(self.info.rows)
        return Circuit(
            title=f"{self.name} {chosen}"
            + ("" if images is None else f" of images {listed(picked.images)}"),
            model=header.model,
            weights_sha256=header.weights_sha256,
            index=self.layer.index.index,
            ids=ids[picked.positions],
            reachable=ids[picked.reachable],
            scores=picked.scores,
            positions=picked.positions,
            origins=(
                Origin(self._reader, self.layer.index, self.info, commit, chosen, picked.images),
            ),
        )

    def faithfulness(self) -> pa.Table:
        """How well its circuits preserve its response: a row a criterion, ablation, split
        and sparsity level.
        Without rows for a dead unit."""
        return self._reader.faithfulness(self.commit)

    def responses(self) -> pa.Table:
        """What each image does to the unit, one row an image."""
        return self._reader.responses(self.commit)

    def subfeatures(self) -> pa.Table:
        """How well the circuits of its single top images do, each on its image."""
        return self._reader.subfeatures(self.commit)

    def feature_visualizations(self) -> tuple[FeatureVisualization, ...]:
        """Pictures made to drive it, and those made to do the opposite: in the whole network, then
        through its circuits. Empty where `circuit-atlas features` has made none."""
        records = self._reader.feature_visualizations(self.layer.name, self.number)
        return tuple(FeatureVisualization(record, self._reader) for record in records)

    def top_images(self) -> pa.Table:
        """Its top images: the scoring images with the largest response, best first.

        Columns: rank, image (its id), name, label, response, maximum; position_y and position_x of
        the maximum in the layer's output; box_top, box_left, box_bottom and box_right of its
        receptive field, in pixels of the network's input, half-open.
        """
        responses = self.responses()
        top = responses.filter(pc.is_valid(responses["rank"])).sort_by("rank")
        named = self._reader.images(columns=["id", "name", "label"])
        names = {row["id"]: row for row in named.to_pylist()}
        rows = [names[number] for number in top["image"].to_pylist()]
        measured = top.drop_columns(["rank", "image", "split"])
        return pa.table(
            {
                "rank": top["rank"],
                "image": top["image"],
                "name": pa.array([row["name"] for row in rows], pa.string()),
                "label": pa.array([row["label"] for row in rows], pa.string()),
                **dict(zip(measured.column_names, measured.columns, strict=True)),
            }
        )

    def similar(
        self, *, keep: float = 0.1, criterion: str | None = None, limit: int = 10
    ) -> pa.Table:
        """The units of its layer whose circuits share most with its own, most first, ties by
        number.

        Columns: unit; name; iou, kernels of both circuits over kernels of either, 0 to 1; shared,
        kernels of both; kernels, of the other circuit. Reads the circuits of the whole layer; to
        ask for several units, ask `Layer.masks` or `Layer.similarity`.

        Raises:
            QueryError: the unit has no circuit, or no such criterion, fraction or limit.
        """
        one = Masks(self.layer, keep=keep, criterion=criterion)
        one.add(self.number)  # what is wrong is said before the layer is read
        return one.add_all().similar(self.number, limit=limit)

    def groups(
        self, *, criterion: str | None = None, groups: int | Literal["auto"] | None = None
    ) -> Groups:
        """Its sub-feature groups: top images that it computes by the same kernels.

        A sequence of groups, each with its images and its circuit: `unit.groups()[0].circuit(
        keep=0.1)`. How images are compared and the number of groups is chosen is said in
        `jobs.groups`.

        Args:
            criterion: whose scores of single images; the atlas' first that has such.
            groups: how many, found anew from the stored scores; "auto" for as many as there seem
                to be, found anew; the stored groups where not given.

        Raises:
            QueryError: a dead unit, no such criterion, not that many images, an atlas too old to
                have groups, or scipy is not installed, which finding them anew needs.
        """
        if groups is None:
            return stored_groups(self, criterion=criterion)
        return new_groups(self, criterion=criterion, groups=None if groups == "auto" else groups)

    def polysemanticity(
        self,
        *,
        criterion: str | None = None,
        keep: float = KEEP,
        groups: int | Literal["auto"] | None = None,
    ) -> Polysemanticity:
        """How much less the circuits of images of different groups share than those of one group,
        corrected for what circuits of that size share by chance: `value` is 0 for one feature, and
        1 for features that have no more in common than any two sets of kernels. The definition
        stands at the top of `service.analysis.polysemanticity`.

        Args:
            criterion: whose scores of single images; the atlas' first that has such.
            keep: the fraction that the images' circuits keep, above 0 and below 1.
            groups: as in `groups`.

        Raises:
            QueryError: as of `groups`, or no such fraction.
        """
        found = self.groups(criterion=criterion, groups=groups)
        return polysemanticity_of_unit(self, found, keep=keep)

    def selectivity(self, *, criterion: str | None = None, ablation: str | None = None) -> pa.Table:
        """How much of the responses to its own images each group's circuit preserves, and how much
        of the responses to the others', on every level: the paper's own comparison.

        One row a group and level, empty where there is one group. Columns: group; level; fraction;
        kernels of the group's circuit; images of the group; others, the unit's other top images;
        preserved, the sum of |r of the circuit| over the group's images over that of |r of the
        whole network|; leaked, the same over the other images, small where the circuit suppresses
        them; selectivity, preserved - leaked. r is the response explained of the unit's output on
        one image, `atlas.header.response` (`sum_abs`: the sum of its absolute values over
        positions), so preserved can be above 1. The three are null where |r| of the whole network
        sums to 0 or there are no such images.

        Args:
            criterion: whose scores of single images; the atlas' first that has such.
            ablation: what stood for dropped kernels; the atlas' first.

        Raises:
            QueryError: no such criterion or ablation, the unit is not stored, or the atlas is too
                old to have the comparison.
        """
        return selectivity(self, criterion=criterion, ablation=ablation)

    def projection(self, *, criterion: str | None = None, method: str = "pca") -> pa.Table:
        """A map of its top images: near each other where it computes them by the same kernels.

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
        return projection(self, criterion=criterion, method=method)

    @cached_property
    def _found(self) -> Commit | None:
        return self._reader.commit(self.layer.name, self.number)

    @cached_property
    def _failure(self) -> FailureRecord | None:
        return self._reader.failures(self.layer.name).get(self.number)

    @property
    def _reader(self) -> Reader:
        return self.layer.atlas.reader

    def _absence(self) -> str:
        """Why the unit is not stored, and what to do."""
        if self._failure is not None:
            return (
                f"unit {self.name} failed ({self._failure.kind}: {self._failure.message}); "
                "run the same build again to retry it"
            )
        if self.state == "planned":
            return f"unit {self.name} is not computed yet: run the same build again to go on"
        return (
            f"unit {self.name} is not in this atlas: name it under `units` of its layer in the "
            "spec and run `circuit-atlas build` again, which adds to the atlas"
        )

    def __repr__(self) -> str:
        reach = (
            f", {self.reachable_kernels:,} kernels can reach it" if self._found is not None else ""
        )
        return f"<Unit {self.name} of {self.layer.atlas.header.model}: {self.state}{reach}>"

    def _repr_html_(self) -> str:
        table = self.top_images() if self._found is not None else pa.table({"state": [self.state]})
        return html_table(table, caption=repr(self)[1:-1])
