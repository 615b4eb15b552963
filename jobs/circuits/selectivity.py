"""Contrast: how strongly the circuit of a group of images preserves its own images' responses and
suppresses those to the others, in comparison with the whole network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.jobs.circuits.groups import GroupLabels, group_images
from circuit_atlas.jobs.circuits.masks import ladder
from circuit_atlas.jobs.engine.targets import Response, respond
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.quantise import dequantise, quantise
from circuit_atlas.storage_schema.records import ContrastRow, GroupRow


@dataclass(frozen=True)
class Grouped:
    """A unit's top images in groups, by one criterion's scores.

    Attributes:
        criterion: the criterion.
        top: places of the top images among all images, by rank.
        groups: the group of each.
        trials: with its group, a trial of the group's circuits on all the top images, for each
            ablation; none where there is one group.
    """

    criterion: str
    top: Sequence[int]
    groups: GroupLabels
    trials: tuple[tuple[int, CircuitRun], ...]

    def group_rows(self, images: Sequence[int]) -> Iterator[GroupRow]:
        """A row an image; `images` are the ids of all images by place."""
        for place, group in zip(self.top, self.groups.labels, strict=True):
            yield GroupRow(
                criterion=self.criterion,
                image=images[place],
                group=int(group),
                groups=self.groups.count,
                silhouette=self.groups.silhouette,
            )

    def contrast_rows(
        self, images: Sequence[int], *, header: AtlasHeader, response: Response
    ) -> Iterator[ContrastRow]:
        """A row a trial, circuit and image, once the trials have run."""
        group_of = dict(zip(self.top, self.groups.labels.tolist(), strict=True))
        for group, trial in self.trials:
            kept = _responses(trial.maps, response)
            full = _responses(trial.full, response)
            for rung, fraction in enumerate(header.fractions):
                for n, place in enumerate(trial.places):
                    yield ContrastRow(
                        criterion=self.criterion,
                        ablation=trial.ablation,
                        group=group,
                        rung=rung,
                        fraction=fraction,
                        kernels=int(trial.masks[rung].sum()),
                        image=images[place],
                        inside=group_of[place] == group,
                        response=float(kept[rung, n]),
                        full=float(full[n]),
                    )


def group_top_images(
    criterion: str,
    scores: NDArray[np.float32],
    *,
    number: int,
    full: NDArray[np.float32],
    top: Sequence[int],
    header: AtlasHeader,
) -> Grouped:
    """Groups of a unit's top images, and trials of the groups' circuits.

    They are made of the scores as they will be stored, so that who reads the atlas finds the same
    groups and the same circuits.

    Args:
        criterion: whose scores they are.
        scores: (top images, kernels) by rank.
        number: the unit.
        full: (images, height, width), the unit's response in the whole network to all images.
        top: places of the top images among them, by rank.
        header: fractions and ablations.
    """
    stored = dequantise(*quantise(scores))
    groups = group_images(stored)
    if groups.count == 1:
        return Grouped(criterion, top, groups, ())
    places = sorted(top)
    trials = []
    for group in range(groups.count):
        mean = stored[groups.labels == group].astype(np.float64).mean(axis=0)
        masks = ladder(mean, header.fractions)
        trials += [
            (group, CircuitRun(number, ablation, masks, full[places], places))
            for ablation in header.ablations
        ]
    return Grouped(criterion, top, groups, tuple(trials))


def _responses(maps: NDArray[np.float32], response: Response) -> NDArray[np.float32]:
    """r of every map: (..., height, width) -> (...)."""
    found: NDArray[np.float32] = respond(torch.from_numpy(maps), response).numpy()
    return found
