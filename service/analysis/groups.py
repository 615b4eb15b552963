"""Sub-feature groups: top images of a unit that it computes by the same kernels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pyarrow as pa

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.circuit.display import html_table
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.version import NETWORK_SINCE

if TYPE_CHECKING:
    from circuit_atlas.service.circuit.circuit import Circuit
    from circuit_atlas.service.client.unit import Unit


@dataclass(frozen=True)
class Group:
    """One sub-feature group.

    Attributes:
        unit: whose images they are.
        criterion: whose scores they were grouped by.
        number: from 0, the largest group first.
        images: ids of its images, the largest response first.
    """

    unit: Unit = field(repr=False)
    criterion: str
    number: int
    images: tuple[int, ...]

    def circuit(self, *, keep: float | None = None, kernels: int | None = None) -> Circuit:
        """The circuit of the mean score of its images; see `Unit.circuit`."""
        return self.unit.circuit(
            keep=keep, kernels=kernels, criterion=self.criterion, images=self.images
        )

    def __len__(self) -> int:
        """Images in the group."""
        return len(self.images)


@dataclass(frozen=True, repr=False)
class Groups:
    """The sub-feature groups of a unit, a sequence of `Group`.

    Attributes:
        unit: whose images they are.
        criterion: whose scores they were grouped by.
        stored: whether they are those of the atlas, and not found anew.
        silhouette: mean over the images, -1 to 1, larger where groups are farther apart than their
            images are; None for one group.
        chance: share of samples of one group that are split as well as these images; None where it
            was not asked: of stored groups, and of a given number.
        labels: the group of each top image, by rank.
        groups: one after the other, the largest first.
    """

    unit: Unit
    criterion: str
    stored: bool
    silhouette: float | None
    chance: float | None
    labels: tuple[int, ...]
    groups: tuple[Group, ...]

    def __len__(self) -> int:
        """How many groups."""
        return len(self.groups)

    def __getitem__(self, number: int) -> Group:
        return self.groups[number]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def table(self) -> pa.Table:
        """One row an image, by rank: image, name, label, rank, response and group. `label` is null
        where none is known."""
        top = self.unit.top_images().select(["image", "name", "label", "rank", "response"])
        return top.append_column("group", pa.array(self.labels, pa.int16()))

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(group)) for group in self.groups)
        apart = "" if self.silhouette is None else f", silhouette {self.silhouette:.2f}"
        return (
            f"<Groups of {self.unit.name} by {self.criterion}: {len(self)} of {sizes} images"
            f"{apart}>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.table(), caption=repr(self)[1:-1])


def stored_groups(unit: Unit, *, criterion: str | None) -> Groups:
    """The groups that the build found; see `Unit.groups`."""
    chosen = arguments.image_criterion(unit.layer.atlas, criterion)
    unit.commit.form(chosen)  # a dead unit says so
    rows = [
        row
        for row in unit.layer.atlas.reader.groups(unit.commit).to_pylist()
        if row["criterion"] == chosen
    ]
    of = {row["image"]: row["group"] for row in rows}
    images = unit.top_images()["image"].to_pylist()
    labels = tuple(of[image] for image in images)
    silhouette = rows[0]["silhouette"] if rows else None
    return _groups(unit, chosen, images, labels, stored=True, silhouette=silhouette, chance=None)


def known_groups(unit: Unit) -> Groups | None:
    """The stored groups by the first criterion that has such; None of a unit that is not done, and
    in an atlas without groups."""
    header = unit.layer.atlas.header
    if not header.image_criteria or header.schema < NETWORK_SINCE or unit.state != "done":
        return None
    return stored_groups(unit, criterion=None)


def new_groups(unit: Unit, *, criterion: str | None, groups: int | None) -> Groups:
    """Groups found anew from the stored scores; see `Unit.groups`."""
    from circuit_atlas.jobs.circuits.groups import group_images

    chosen = arguments.image_criterion(unit.layer.atlas, criterion)
    number = None if groups is None else arguments.whole(groups, what="groups")
    scores = unit.layer.atlas.reader.image_scores(unit.commit, chosen)
    arguments.module("scipy.cluster.hierarchy", package="scipy", what="grouping images anew")
    try:
        found = group_images(scores, groups=number)
    except QueryError as error:
        raise QueryError(f"unit {unit.name}: {error}") from None
    return _groups(
        unit,
        chosen,
        unit.top_images()["image"].to_pylist(),
        tuple(found.labels.tolist()),
        stored=False,
        silhouette=found.silhouette,
        chance=found.chance,
    )


def _groups(
    unit: Unit,
    criterion: str,
    images: list[int],
    labels: tuple[int, ...],
    *,
    stored: bool,
    silhouette: float | None,
    chance: float | None,
) -> Groups:
    members: dict[int, list[int]] = {number: [] for number in sorted(set(labels))}
    for image, label in zip(images, labels, strict=True):
        members[label].append(image)
    return Groups(
        unit=unit,
        criterion=criterion,
        stored=stored,
        silhouette=silhouette,
        chance=chance,
        labels=labels,
        groups=tuple(
            Group(unit, criterion, number, tuple(found)) for number, found in members.items()
        ),
    )
