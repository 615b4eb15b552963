"""Selectivity: how strongly the circuit of a group of images preserves the responses to that group
and suppresses those to the other images, in comparison with the whole network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.circuits.responses import responses_of
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.storage_schema.grouping import GroupLabels, group_images
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.quantise import dequantise, quantise
from circuit_atlas.storage_schema.records import ContrastRow, GroupRow


@dataclass(frozen=True)
class GroupedImages:
    """A unit's top images in groups, by one criterion's scores.

    Attributes:
        criterion: the criterion.
        top: indices of the top images among all images, by rank.
        groups: the group of each.
        runs: with its group, a run of the group's circuits on all the top images, for each
            ablation; none where there is one group.
    """

    criterion: str
    top: Sequence[int]
    groups: GroupLabels
    runs: tuple[tuple[int, CircuitRun], ...]

    def levels(self) -> NDArray[np.uint8] | None:
        """Tells how many of each group's circuits hold each kernel, (groups, kernels); None where
        there is one group."""
        masks = {group: run.masks for group, run in self.runs}
        if not masks:
            return None
        return np.stack([masks[group].sum(axis=0, dtype=np.uint8) for group in sorted(masks)])

    def group_rows(self, images: Sequence[int]) -> Iterator[GroupRow]:
        """Yields a row an image; `images` are the ids of all images by index."""
        for index, group in zip(self.top, self.groups.labels, strict=True):
            yield GroupRow(
                criterion=self.criterion,
                image=images[index],
                group=int(group),
                groups=self.groups.count,
                silhouette=self.groups.silhouette,
            )

    def contrast_rows(
        self, images: Sequence[int], *, header: AtlasHeader, response: Response
    ) -> Iterator[ContrastRow]:
        """Yields a row a run, circuit and image, once the circuits have run."""
        group_of = dict(zip(self.top, self.groups.labels.tolist(), strict=True))
        for group, run in self.runs:
            in_circuits = responses_of(run.maps, response)
            full = responses_of(run.full, response)
            for level, fraction in enumerate(header.fractions):
                for n, index in enumerate(run.image_indices):
                    yield ContrastRow(
                        criterion=self.criterion,
                        ablation=run.ablation,
                        group=group,
                        rung=level,
                        fraction=fraction,
                        kernels=int(run.masks[level].sum()),
                        image=images[index],
                        inside=group_of[index] == group,
                        response=float(in_circuits[level, n]),
                        full=float(full[n]),
                        acting=int(run.acting[level]),
                    )


def group_top_images(
    criterion: str,
    scores: NDArray[np.float32],
    *,
    number: int,
    full: NDArray[np.float32],
    top: Sequence[int],
    header: AtlasHeader,
) -> GroupedImages:
    """Groups a unit's top images, and sets up runs of the groups' circuits.

    Both are made from the scores as they will be stored, so that a reader of the atlas finds the
    same groups and the same circuits.

    Args:
        criterion: the one that gave the scores.
        scores: (top images, kernels) by rank.
        number: the unit.
        full: (images, height, width), the unit's response in the whole network to all images.
        top: indices of the top images among them, by rank.
        header: fractions and ablations.
    """
    groups, means = image_groups(scores)
    return with_circuits(criterion, groups, means, number=number, full=full, top=top, header=header)


def image_groups(scores: NDArray[np.float32]) -> tuple[GroupLabels, NDArray[np.float64]]:
    """Groups images by their scores, (images, kernels), as they will be stored; with the mean score
    of each group, (groups, kernels)."""
    stored = dequantise(*quantise(scores))
    groups = group_images(stored)
    means = [
        stored[groups.labels == group].astype(np.float64).mean(axis=0)
        for group in range(groups.count)
    ]
    return groups, np.stack(means)


def with_circuits(
    criterion: str,
    groups: GroupLabels,
    scores: Sequence[NDArray[np.floating]] | NDArray[np.floating],
    *,
    number: int,
    full: NDArray[np.float32],
    top: Sequence[int],
    header: AtlasHeader,
) -> GroupedImages:
    """Sets up runs of the circuits of groups, where there are several; `scores` has one of
    (kernels,) for each, and the rest is as of `group_top_images`."""
    if groups.count == 1:
        return GroupedImages(criterion, top, groups, ())
    indices = sorted(top)
    runs = []
    for group, score in enumerate(scores):
        masks = nested_masks(score, header.fractions)
        runs += [
            (group, CircuitRun(number, ablation, masks, full[indices], indices))
            for ablation in header.ablations
        ]
    return GroupedImages(criterion, top, groups, tuple(runs))
