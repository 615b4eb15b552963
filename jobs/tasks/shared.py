"""What the units of a task share: the full network's responses, and scores in one pass."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.faithfulness import is_constant
from circuit_atlas.jobs.circuits.pruned import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.responses import top_places
from circuit_atlas.jobs.engine.targets import respond
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.receptive_field import Interval, receptive_fields
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import BlockScores, score_images
from circuit_atlas.jobs.scores.per_image import PER_IMAGE
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.storage_schema.header import AtlasHeader


@dataclass(frozen=True)
class Block:
    """What the units of a task share, computed once.

    Attributes:
        images: ids of the usable images, scoring ones first.
        scoring: how many of them are for scoring.
        maps: (units, images, height, width), each unit's full response.
        responses: (units, images).
        top: for each unit, places of its top images by rank.
        scores: by criterion, for the live units, in the order of `live`; and the signed
            `contribution`.
        live: numbers of the units that are neither dead nor failing.
        means: every kernel's mean contribution, where the spec asks for mean ablation.
        together: images that go through the network at one time.
        shared_s: seconds that a unit has used of the work done for all of them.
    """

    source: OpenedSpec
    layer: TracedLayer
    header: AtlasHeader
    numbers: tuple[int, ...]
    images: tuple[int, ...]
    scoring: int
    maps: NDArray[np.float32]
    responses: NDArray[np.float32]
    top: Mapping[int, Sequence[int]]
    scores: Mapping[str, BlockScores]
    live: tuple[int, ...]
    means: KernelMeans | None
    fields: tuple[Interval, Interval]
    together: int
    shared_s: float

    def full(self, number: int) -> NDArray[np.float32]:
        """The unit's response in the whole network: (images, height, width)."""
        return self.maps[self.numbers.index(number)]

    def batches(self, places: Sequence[int]) -> Iterator[Tensor]:
        """The images at those places, (batch, 3, height, width) at a time."""
        return self.source.batches([self.images[place] for place in places], self.together)


def open_block(
    source: OpenedSpec,
    layer: TracedLayer,
    header: AtlasHeader,
    numbers: Sequence[int],
    *,
    together: int,
) -> Block:
    """Runs the full network on every image, `together` at a time, and scores all units of the
    block together."""
    started = time.perf_counter()
    spec = source.spec.circuits
    scoring, held_out = source.images.scoring, source.images.held_out
    images = (*scoring, *held_out)
    targets = layer.targets(numbers)
    with torch.no_grad():
        outputs = [
            targets.maps(layer.network.output(batch)) for batch in source.batches(images, together)
        ]
        full = torch.cat(outputs, 1)
        responses = respond(full, spec.response).cpu().numpy()
    maps = full.cpu().numpy()
    live = tuple(
        number
        for row, number in enumerate(numbers)
        if np.isfinite(maps[row]).all() and not is_constant(maps[row])
    )
    rows = {number: row for row, number in enumerate(numbers)}
    top = {
        number: top_places(responses[rows[number]], range(len(scoring)), header.top_images)
        for number in live
    }
    criteria = [name for name in spec.criteria if name in PER_IMAGE]
    scores: Mapping[str, BlockScores] = {}
    if live:
        scores = score_images(
            layer,
            live,
            source.batches(scoring, together),
            keep=top,
            criteria=[*criteria, CONTRIBUTION],
            response=spec.response,
            block=len(live),
        )
    means = None
    if live and "mean" in spec.ablation:
        means = kernel_means(layer, source.batches(scoring, together))
    return Block(
        source=source,
        layer=layer,
        header=header,
        numbers=tuple(numbers),
        images=images,
        scoring=len(scoring),
        maps=maps,
        responses=responses,
        top=top,
        scores=scores,
        live=live,
        means=means,
        fields=receptive_fields(layer.network),
        together=together,
        shared_s=(time.perf_counter() - started) / len(numbers),
    )
