"""Whether a circuit is one of its images: circuits of some images, tested on others.

The scoring images are split into two halves, by chance and several times. Of each half, the first m
images choose a circuit by the mean of their scores, for several m; it runs on the other half. As
all of a unit's scores are those of single images, one pass scores for all of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.scores.per_image import PER_IMAGE
from circuit_atlas.jobs.tasks.block import Block, open_block
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import resolve_opened
from circuit_atlas.storage_schema.errors import ImageError, QueryError, SpecError
from circuit_atlas.storage_schema.wording import nearest

REPEATS = 5
"""Splits into halves where no number is given."""


@dataclass(frozen=True)
class TransferRow:
    """Says how one circuit does on images that did not choose it.

    Attributes:
        repeat: which split into halves, from 0.
        half: which half chose the circuit, 0 or 1.
        images: how many of its images did.
        kernels: of the circuit.
        chosen: Pearson r with the whole network on those images; None where either is constant.
        tested: the same on the other half.
        iou: IoU with the circuit that as many images of the other half choose.
    """

    repeat: int
    half: int
    images: int
    kernels: int
    chosen: float | None
    tested: float | None
    iou: float


def transfer_rows(
    opened: OpenedSpec,
    layer: str,
    number: int,
    *,
    numbers: Sequence[int] | None = None,
    repeats: int = REPEATS,
) -> tuple[TransferRow, ...]:
    """Test circuits of some of the scoring images on others, zero ablation.

    Args:
        opened: a spec whose `[circuits]` names one criterion, of single images, and one fraction;
            its seed decides the splits.
        layer: the layer.
        number: the unit.
        numbers: how many images choose a circuit, each at most half of them. Default: 1, 2, 4, ...
            and half.
        repeats: how often to split.

    Holds the unit's scores of all scoring images: 4 bytes a kernel and image.

    Raises:
        SpecError: the criterion scores no single images, or a number is out of range.
        ImageError: there are fewer than two scoring images.
        QueryError: the unit is dead.
        ModelError: there is no such layer or unit.
    """
    spec, total = opened.spec.circuits, len(opened.images.scoring)
    (criterion,), (fraction,) = spec.criteria, spec.fractions
    if criterion not in PER_IMAGE:
        raise SpecError(
            f"{criterion!r} has no scores of single images, by which circuits of some of them are "
            f"chosen: {nearest(criterion, tuple(PER_IMAGE), what='criteria that have them')}"
        )
    if total < 2:
        raise ImageError(f"{total} image cannot be split into halves: give two or more")
    chosen_by = _numbers(numbers, total // 2)
    if repeats < 1:
        raise SpecError(f"repeats={repeats} is too small: give 1 or more")
    # Not only its top images have scores of their own.
    build = resolve_opened(opened, self_check=opened.spec.run.self_check)
    header = replace(build.header, top_images=total)
    traced = opened.layer(layer)
    together = opened.spec.run.batch_size
    block = open_block(opened, traced, header, [number], together=together, unit_labels={})
    if number not in block.live:
        raise QueryError(
            f"unit {number} of {layer!r} is dead: its response is the same on every image, so "
            "it has no circuit"
        )
    scores = np.empty_like(block.scores[criterion].single[0])
    scores[list(block.top[number])] = block.scores[criterion].single[0]
    rng = np.random.default_rng(spec.seed)
    rows: list[TransferRow] = []
    for repeat in range(repeats):
        order = rng.permutation(total)
        halves = order[: total // 2], order[total // 2 : 2 * (total // 2)]
        masks = [
            np.concatenate([_circuit(scores[half[:m]], fraction) for m in chosen_by])
            for half in halves
        ]
        rows += _rows(block, number, repeat, halves, masks, chosen_by)
    return tuple(rows)


def _circuit(scores: NDArray[np.float32], fraction: float) -> NDArray[np.bool_]:
    """The circuit of the mean score of some images, (1, kernels)."""
    return nested_masks(scores.mean(axis=0, dtype=np.float64), [fraction])


def _rows(
    block: Block,
    number: int,
    repeat: int,
    halves: Sequence[NDArray[np.int64]],
    masks: Sequence[NDArray[np.bool_]],
    numbers: Sequence[int],
) -> Iterator[TransferRow]:
    full = block.full(number)[: block.scoring]
    run = CircuitRun(number, "zero", np.concatenate(masks), full, range(block.scoring))
    run_circuits(block.layer, [run], block.batches, means=None)
    for half, (mine, other) in enumerate(((0, 1), (1, 0))):
        for n, images in enumerate(numbers):
            circuit, against = masks[mine][n], masks[other][n]
            maps = run.maps[half * len(numbers) + n]
            tested, chosen = halves[other], halves[mine][:images]
            yield TransferRow(
                repeat=repeat,
                half=half,
                images=images,
                kernels=int(circuit.sum()),
                chosen=FullResponse(full[chosen]).compare(maps[chosen]).pearson,
                tested=FullResponse(full[tested]).compare(maps[tested]).pearson,
                iou=float((circuit & against).sum() / (circuit | against).sum()),
            )


def _numbers(given: Sequence[int] | None, half: int) -> tuple[int, ...]:
    """How many images choose a circuit, ascending."""
    if given is None:
        powers = [2**n for n in range(half.bit_length()) if 2**n <= half]
        return tuple(sorted({*powers, half}))
    for number in given:
        if not 1 <= number <= half:
            raise SpecError(
                f"numbers: {number} is out of range; half of the images are {half}, so give 1 to "
                f"{half}"
            )
    return tuple(sorted(set(given)))
