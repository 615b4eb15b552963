"""Sub-feature groups: top images of a unit that it computes by the same kernels."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow.compute as pc

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.top_images import top_images
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.grouping import RejectedSplit, group_images, labels_of
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.version import NETWORK_SINCE


@dataclass(frozen=True)
class ImageGroups:
    """Says how a unit's top images are grouped.

    Attributes:
        criterion: whose scores they were grouped by.
        stored: whether they are those of the atlas, and not found anew.
        silhouette: mean over the images, -1 to 1, larger where groups are farther apart than their
            images are; None for one group.
        chance: share of samples of one group that are split as well as these images; None where it
            was not asked: of stored groups, and of a given number.
        images: ids of the top images, by rank.
        labels: the group of each, from 0, the largest group first.
        rejected: the best split of images that were found anew to be one group; else None.
    """

    criterion: str
    stored: bool
    silhouette: float | None
    chance: float | None
    images: tuple[int, ...]
    labels: tuple[int, ...]
    rejected: RejectedSplit | None = None

    def members(self) -> dict[int, tuple[int, ...]]:
        """Return the ids of each group's images, by group, the largest response first."""
        members: dict[int, list[int]] = {number: [] for number in sorted(set(self.labels))}
        for image, label in zip(self.images, self.labels, strict=True):
            members[label].append(image)
        return {number: tuple(images) for number, images in members.items()}


def stored_groups(reader: Reader, commit: Commit, *, criterion: str | None) -> ImageGroups:
    """Return the groups that the build found, see `Unit.groups`."""
    chosen = arguments.group_criterion(reader, criterion)
    commit.form(chosen)  # a dead unit says so
    rows = reader.groups(commit)
    rows = rows.filter(pc.equal(rows["criterion"], chosen))
    images = tuple(top_images(reader, commit)["image"].to_pylist())
    return ImageGroups(
        chosen,
        stored=True,
        silhouette=rows["silhouette"][0].as_py() if len(rows) else None,
        chance=None,
        images=images,
        labels=labels_of(rows, images, what=str(commit.key)),
    )


def has_groups(reader: Reader, commit: Commit | None) -> bool:
    """Tell whether groups are stored of a unit: it is done, and the atlas has a criterion with
    groups and is new enough."""
    header = reader.header
    new = bool(header.group_criteria) and header.schema >= NETWORK_SINCE
    return new and commit is not None and commit.state == "done"


def new_groups(
    reader: Reader, commit: Commit, *, criterion: str | None, groups: int | None
) -> ImageGroups:
    """Find groups anew from the stored scores, see `Unit.groups`."""
    chosen = arguments.image_criterion(reader, criterion)
    number = None if groups is None else arguments.whole(groups, what="groups")
    scores = reader.image_scores(commit, chosen)
    arguments.module("scipy.cluster.hierarchy", package="scipy", what="grouping images anew")
    try:
        grouping = group_images(scores, groups=number)
    except QueryError as error:
        name = reader.layer(commit.layer).unit(commit.unit).name
        raise QueryError(f"unit {commit.layer}/{name}: {error}") from None
    return ImageGroups(
        chosen,
        stored=False,
        silhouette=grouping.silhouette,
        chance=grouping.chance,
        images=tuple(top_images(reader, commit)["image"].to_pylist()),
        labels=tuple(grouping.labels.tolist()),
        rejected=grouping.rejected,
    )
