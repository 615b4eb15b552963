"""The sub-feature groups of a unit: its top images by the kernels that it computes them by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import pyarrow as pa

from circuit_atlas.service.analysis.groups import ImageGroups, has_groups
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.storage_schema.reader import Reader


class GroupedUnit(Protocol):
    """Is what groups need of a unit, see `Unit`."""

    reader: Reader

    @property
    def layer(self) -> str:
        """Return the name of its layer."""

    @property
    def number(self) -> int:
        """Return its number."""

    @property
    def name(self) -> str:
        """Return `layer/number`."""

    def circuit(
        self,
        keep: float | None = None,
        *,
        kernels: int | None = None,
        criterion: str | None = None,
        images: Sequence[int] | None = None,
    ) -> Circuit:
        """Choose a circuit."""

    def top_images(self) -> AtlasTable:
        """List its top images."""

    def selectivity(
        self, *, criterion: str | None = None, ablation: str | None = None
    ) -> AtlasTable:
        """Tell what its groups' circuits preserve."""

    def groups(
        self, *, criterion: str | None = None, groups: int | Literal["auto"] | None = None
    ) -> Groups:
        """Group its top images."""


@dataclass(frozen=True)
class Group:
    """Is one sub-feature group.

    Attributes:
        unit: whose images they are.
        criterion: whose scores they were grouped by.
        number: from 0, the largest group first.
        images: ids of its images, the largest response first.
    """

    unit: GroupedUnit = field(repr=False)
    criterion: str
    number: int
    images: tuple[int, ...]

    def circuit(self, *, keep: float | None = None, kernels: int | None = None) -> Circuit:
        """Return the circuit of the mean score of its images, or by `learned` the one that was
        trained on them; see `Unit.circuit`.

        QueryError, too, where a group's circuit was trained and none keeps that many kernels, or
        the unit has this group alone.
        """
        return self.unit.circuit(
            keep=keep, kernels=kernels, criterion=self.criterion, images=self.images
        )

    def __len__(self) -> int:
        """Images in the group."""
        return len(self.images)


@dataclass(frozen=True, repr=False)
class Groups:
    """Holds the sub-feature groups of a unit, a sequence of `Group`.

    Attributes:
        unit: whose images they are.
        grouping: how its images are grouped, and how well they part.
        groups: one after the other, the largest first.
    """

    unit: GroupedUnit
    grouping: ImageGroups
    groups: tuple[Group, ...]

    @classmethod
    def of(cls, unit: GroupedUnit, grouping: ImageGroups) -> Groups:
        """Make the groups of a unit's images."""
        members = grouping.members().items()
        groups = (Group(unit, grouping.criterion, number, images) for number, images in members)
        return cls(unit, grouping, tuple(groups))

    @property
    def criterion(self) -> str:
        """Name the criterion whose scores they were grouped by."""
        return self.grouping.criterion

    @property
    def stored(self) -> bool:
        """Tell whether they are those of the atlas, and not found anew."""
        return self.grouping.stored

    @property
    def silhouette(self) -> float | None:
        """Tell how far apart they are, -1 to 1, the mean over the images; None for one group."""
        return self.grouping.silhouette

    @property
    def chance(self) -> float | None:
        """Return the share of samples of one group that are split as well as these images; None
        where it was not asked: of stored groups, and of a given number."""
        return self.grouping.chance

    @property
    def labels(self) -> tuple[int, ...]:
        """Return the group of each top image, by rank."""
        return self.grouping.labels

    def __len__(self) -> int:
        """How many groups."""
        return len(self.groups)

    def __getitem__(self, number: int) -> Group:
        return self.groups[number]

    def __iter__(self) -> Iterator[Group]:
        return iter(self.groups)

    def table(self) -> AtlasTable:
        """Return one row for each image, by rank: image, name, label, rank, response and group.
        `label` is null where none is known."""
        top = self.unit.top_images().to_arrow()
        top = top.select(["image", "name", "label", "rank", "response"])
        return AtlasTable(top.append_column("group", pa.array(self.labels, pa.int16())))

    def __repr__(self) -> str:
        sizes = ", ".join(str(len(group)) for group in self.groups)
        apart = "" if self.silhouette is None else f", silhouette {self.silhouette:.2f}"
        return (
            f"<Groups of {self.unit.name} by {self.criterion}: {len(self)} of {sizes} images"
            f"{apart}>"
        )

    def _repr_html_(self) -> str:
        return html_table(self.table().to_arrow(), caption=repr(self)[1:-1])


def known_groups(unit: GroupedUnit, criterion: str) -> Groups | None:
    """Return the stored groups of a unit by a criterion, or by the first that has such; None where
    there are none: it is not done, or the atlas has no groups."""
    commit = unit.reader.commit(unit.layer, unit.number)
    if not has_groups(unit.reader, commit):
        return None
    chosen = criterion if criterion in unit.reader.header.group_criteria else None
    return unit.groups(criterion=chosen)
