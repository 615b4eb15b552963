"""A block of units: respond, score, prune, evaluate."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits import KernelMeans, circuit_maps, kernel_means
from circuit_atlas.jobs.evaluate import Faithfulness, Reference, is_constant
from circuit_atlas.jobs.force import force_scores, schedule
from circuit_atlas.jobs.layer import Layer
from circuit_atlas.jobs.prune import keep_best, kernels_kept, ladder
from circuit_atlas.jobs.receptive import Interval, receptive_fields
from circuit_atlas.jobs.saliency import PER_IMAGE
from circuit_atlas.jobs.scores import (
    BlockScores,
    magnitude_scores,
    random_scores,
    score_images,
)
from circuit_atlas.jobs.source import Source
from circuit_atlas.jobs.subfeatures import response_rows, top_places
from circuit_atlas.jobs.targets import respond
from circuit_atlas.storage_schema.errors import NonFiniteError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FaithfulnessRow,
    Split,
    SubfeatureRow,
)

# Units whose cotangents are held at one time: activation maps are computed once for all of them.
_UNITS_PER_PASS = 32


@dataclass(frozen=True)
class Block:
    """What the units of a task share, computed once.

    Attributes:
        images: ids of the usable images, scoring ones first.
        scoring: how many of them are for scoring.
        maps: (units, images, height, width), each unit's full response.
        responses: (units, images).
        top: for each unit, places of its top images by rank.
        scores: by criterion, for the live units, in the order of `live`.
        live: numbers of the units that are neither dead nor failing.
        means: every kernel's mean contribution, where the spec asks for mean ablation.
        shared_s: seconds that a unit has used of the work done for all of them.
    """

    source: Source
    layer: Layer
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
    shared_s: float


def open_block(source: Source, layer: Layer, header: AtlasHeader, numbers: Sequence[int]) -> Block:
    """Runs the full network on every image and scores all units of the block together."""
    started = time.perf_counter()
    spec = source.spec.circuits
    scoring, held_out = source.images.scoring, source.images.held_out
    images = (*scoring, *held_out)
    targets = layer.targets(numbers)
    with torch.no_grad():
        outputs = [
            targets.maps(layer.network.forward(batch)[layer.network.target.name])
            for batch in source.batches(images)
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
    if live and criteria:
        scores = score_images(
            layer,
            live,
            source.batches(scoring),
            keep=top,
            criteria=criteria,
            response=spec.response,
            block=_UNITS_PER_PASS,
        )
    means = None
    if live and "mean" in spec.ablation:
        means = kernel_means(layer, source.batches(scoring))
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
        shared_s=(time.perf_counter() - started) / len(numbers),
    )


def compute_unit(block: Block, key: UnitKey, *, started: float) -> CircuitRecord:
    """Prunes one unit of an open block at every fraction and evaluates every circuit.

    Raises:
        NonFiniteError: NaN or infinity in the unit's responses or scores.
    """
    row = block.numbers.index(key.unit)
    maps = block.maps[row]
    if not np.isfinite(maps).all():
        bad = int((~np.isfinite(maps)).any(axis=(1, 2)).argmax())
        name = block.source.images.infos[block.images[bad]].name
        raise NonFiniteError(
            f"unit {key.unit} of {key.layer!r} responds with NaN or infinity to image {name!r}; "
            "look at the weights and the preprocessing"
        )
    splits: list[Split] = ["scoring"] * block.scoring
    splits += ["held_out"] * (len(block.images) - block.scoring)
    alive = key.unit in block.live
    responses = response_rows(
        maps,
        block.responses[row],
        images=block.images,
        splits=splits,
        top=block.top[key.unit] if alive else [],
        fields=block.fields,
    )
    wanted = block.header.criteria if alive else ()
    criteria = tuple(_criterion(block, key.unit, name) for name in wanted)
    return CircuitRecord(
        key=key,
        state="done" if alive else "dead",
        kernels=int(block.layer.reachable(key.unit).sum()),
        criteria=criteria,
        responses=responses,
        faithfulness=tuple(_faithfulness(block, key.unit, maps, criteria)),
        subfeatures=tuple(_subfeatures(block, key.unit, maps, criteria)),
        compute_s=block.shared_s + time.perf_counter() - started,
    )


def _criterion(block: Block, number: int, name: str) -> CriterionRecord:
    """Scores and masks of one criterion; each of FORCE's fractions has scores of its own."""
    spec = block.source.spec.circuits
    fractions = block.header.fractions
    image_scores = None
    if name in block.scores:
        at = block.live.index(number)
        scores = block.scores[name].mean[at][None]
        image_scores = block.scores[name].kept[at]
    elif name == "force":
        scoring = block.images[: block.scoring]
        total = int(block.layer.reachable(number).sum())
        counts = [kernels_kept(fraction, total) for fraction in fractions]
        scores = np.stack(
            [
                force_scores(
                    block.layer,
                    number,
                    partial(block.source.batches, scoring),
                    counts=schedule(count, total, spec.force_steps),
                    response=spec.response,
                )
                for count in counts
            ]
        )
        masks = np.stack([keep_best(run, k) for run, k in zip(scores, counts, strict=True)])
        return _checked(block, number, CriterionRecord(name, scores, masks, None))
    elif name == "magnitude":
        scores = magnitude_scores(block.layer, number)[None]
    else:
        scores = random_scores(block.layer, number, seed=spec.seed)[None]
    masks = ladder(scores[0], fractions)
    return _checked(block, number, CriterionRecord(name, scores, masks, image_scores))


def _checked(block: Block, number: int, record: CriterionRecord) -> CriterionRecord:
    if not np.isfinite(record.scores[:, block.layer.reachable(number)]).all():
        raise NonFiniteError(
            f"unit {number} of {block.layer.index.layer!r} has {record.name} scores that are NaN "
            "or infinite; look at the weights and the preprocessing"
        )
    return record


def _faithfulness(
    block: Block, number: int, maps: NDArray[np.float32], criteria: Sequence[CriterionRecord]
) -> Iterator[FaithfulnessRow]:
    for split, places in (
        ("scoring", range(block.scoring)),
        ("held_out", range(block.scoring, len(block.images))),
    ):
        if not places:
            continue
        of_split = maps[list(places)]
        reference = Reference(of_split)
        for record in criteria:
            for ablation in block.header.ablations:
                for rung, result in enumerate(
                    _compare(block, number, reference, of_split, record.masks, places, ablation)
                ):
                    yield FaithfulnessRow(
                        criterion=record.name,
                        ablation=ablation,
                        split="scoring" if split == "scoring" else "held_out",
                        response=block.header.response,
                        images=len(places),
                        rung=rung,
                        fraction=block.header.fractions[rung],
                        kernels=int(record.masks[rung].sum()),
                        **vars(result),
                    )


def _subfeatures(
    block: Block, number: int, maps: NDArray[np.float32], criteria: Sequence[CriterionRecord]
) -> Iterator[SubfeatureRow]:
    for record in criteria:
        if record.image_scores is None:
            continue
        for place, scores in zip(block.top[number], record.image_scores, strict=True):
            reference = Reference(maps[place])
            masks = ladder(scores, block.header.fractions)
            for ablation in block.header.ablations:
                for rung, result in enumerate(
                    _compare(block, number, reference, maps[[place]], masks, [place], ablation)
                ):
                    yield SubfeatureRow(
                        criterion=record.name,
                        ablation=ablation,
                        response=block.header.response,
                        image=block.images[place],
                        rung=rung,
                        fraction=block.header.fractions[rung],
                        kernels=int(masks[rung].sum()),
                        **vars(result),
                    )


def _compare(
    block: Block,
    number: int,
    reference: Reference,
    maps: NDArray[np.float32],
    masks: NDArray[np.bool_],
    places: Sequence[int],
    ablation: str,
) -> list[Faithfulness]:
    """Every mask's circuit against the full response on some of the images."""
    whole = masks.sum(axis=1) == block.layer.reachable(number).sum()
    circuits = np.empty((len(masks), *maps.shape), dtype=maps.dtype)
    # A circuit of all kernels is the network itself.
    circuits[whole] = maps
    start = 0
    for batch in block.source.batches([block.images[place] for place in places]):
        circuits[~whole, start : start + len(batch)] = (
            circuit_maps(
                block.layer,
                number,
                masks[~whole],
                batch,
                means=block.means if ablation == "mean" else None,
            )
            .cpu()
            .numpy()
        )
        start += len(batch)
    return [reference.compare(circuit) for circuit in circuits]
