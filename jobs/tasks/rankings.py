"""The rankings that units of a block learn: of all scoring images, and of their sub-feature
groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.faithfulness import is_constant
from circuit_atlas.jobs.circuits.selectivity import GroupedImages, image_groups, with_circuits
from circuit_atlas.jobs.scores.learned import Training, images_a_step, learned_scores, stages
from circuit_atlas.jobs.tasks.block import START, Block


def learned_rankings(block: Block, numbers: Sequence[int]) -> Mapping[int, NDArray[np.float32]]:
    """Trains for each unit its rankings, one a seed, (seeds, kernels); none where the spec does not
    ask for any."""
    spec = block.opened.spec.learned
    if "learned" not in block.header.criteria or not numbers:
        return {}
    scores = block.scores[START].mean
    starts = {number: scores[block.live.index(number)] for number in numbers}
    every = range(block.scoring)
    each = [
        _trained(
            block,
            starts,
            every,
            seed=spec.seed + n,
            step="learned" if spec.seeds == 1 else f"learned {n + 1} of {spec.seeds}",
        )
        for n in range(spec.seeds)
    ]
    return {number: np.stack([scores[number] for scores in each]) for number in numbers}


def learned_groups(block: Block, number: int) -> GroupedImages:
    """Groups a unit's top images by the scores that rankings start from, and trains a ranking for
    each group, on its images alone and from their mean score; none where there is one group.

    A group on whose images the unit never changes keeps the ranking of their mean score.
    """
    top, full = block.top[number], block.full(number)
    groups, starts = image_groups(block.scores[START].single[block.live.index(number)])
    scores = []
    for group, start in enumerate(starts if groups.count > 1 else ()):
        images = [index for index, own in zip(top, groups.labels, strict=True) if own == group]
        if is_constant(full[images]):
            scores.append(start.astype(np.float32))
            continue
        often = math.ceil(_images_a_step(block) / len(images))
        trained = _trained(
            block,
            {number: start.astype(np.float32)},
            # A step takes several crops of an image where there are fewer images than crops.
            images * often,
            seed=block.opened.spec.learned.seed,
            step=f"learned group {group + 1} of {groups.count} of unit {number}",
        )
        scores.append(trained[number])
    return with_circuits(
        "learned",
        groups,
        scores,
        number=number,
        full=full,
        top=top,
        header=block.header,
    )


def _trained(
    block: Block,
    starts: Mapping[int, NDArray[np.float32]],
    images: Sequence[int],
    *,
    seed: int,
    step: str,
) -> Mapping[int, NDArray[np.float32]]:
    """For each unit the ranking that is trained from its start on some images, (kernels,); `step`
    names the training for whoever looks on."""
    spec = block.opened.spec
    planned = stages(block.header.fractions, spec.learned.steps)
    block.progress.step(step, sum(stage.steps for stage in planned))

    def stacked(indices: Sequence[int]) -> Tensor:
        block.progress.advance()
        return torch.cat(list(block.batches([images[index] for index in indices])))

    return learned_scores(
        block.layer,
        starts,
        stacked,
        len(images),
        fractions=block.header.fractions,
        training=Training(
            steps=spec.learned.steps,
            crop=spec.learned.crop,
            batch=spec.learned.batch,
            rate=spec.learned.rate,
            seed=seed,
        ),
        response=spec.circuits.response,
        means=block.means if spec.learned_ablation == "mean" else None,
    )


def _images_a_step(block: Block) -> int:
    positions = block.layer.index.height * block.layer.index.width
    return images_a_step(block.opened.spec.learned.batch, positions)
