"""The units of an open block: prune each, run its circuits, say how faithful they are."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.masks import keep_best, ladder
from circuit_atlas.jobs.circuits.responses import response_rows
from circuit_atlas.jobs.circuits.selectivity import Grouped, group_top_images
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.over_images import magnitude_scores, random_scores
from circuit_atlas.jobs.tasks.shared import Block
from circuit_atlas.storage_schema.errors import AtlasError, NonFiniteError, UnitError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FailureRecord,
    FaithfulnessRow,
    Split,
    SubfeatureRow,
)


@dataclass(frozen=True)
class UnitPlan:
    """A unit's circuits and the trials that are to say how faithful they are; a dead unit's are
    empty.

    Attributes:
        criteria: scores and masks.
        sets: with its criterion, a trial of the set's circuits on all images, for each ablation.
        singles: the same of each top image's own circuits, on that image.
        grouped: groups of the top images, by criterion, and trials of the groups' circuits.
    """

    criteria: tuple[CriterionRecord, ...]
    sets: tuple[tuple[str, CircuitRun], ...]
    singles: tuple[tuple[str, CircuitRun], ...]
    grouped: tuple[Grouped, ...]


def compute(block: Block, keys: Sequence[UnitKey]) -> Iterator[CircuitRecord | FailureRecord]:
    """The record of every unit of the block, or how it failed."""
    started = time.perf_counter()
    pruned: dict[UnitKey, UnitPlan | FailureRecord] = {}
    force = _force(block, [key.unit for key in keys if key.unit in block.live])
    for key in keys:
        try:
            pruned[key] = _prune(block, key, force)
        except UnitError as error:
            pruned[key] = failure(key, error)
    ready = [unit for unit in pruned.values() if isinstance(unit, UnitPlan)]
    trials = [trial for unit in ready for _, trial in (*unit.sets, *unit.singles)]
    trials += [trial for unit in ready for some in unit.grouped for _, trial in some.trials]
    if trials:
        run(block.layer, trials, block.batches, means=block.means)
    each_s = block.shared_s + (time.perf_counter() - started) / len(keys)
    for key, unit in pruned.items():
        if isinstance(unit, FailureRecord):
            yield unit
        else:
            yield _record(block, key, unit, each_s)


def failure(key: UnitKey, error: Exception) -> FailureRecord:
    """How a unit failed: the error's kind, its line, and where it arose."""
    return FailureRecord(
        key=key,
        kind=error.kind if isinstance(error, AtlasError) else type(error).__name__,
        message=(str(error).strip().splitlines() or [type(error).__name__])[0],
        trace="".join(traceback.format_exception(error)),
    )


def _force(block: Block, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """Of each unit the scores that chose the circuit of each fraction, (fractions, kernels)."""
    spec = block.source.spec.circuits
    if "force" not in block.header.criteria or not numbers:
        return {}
    courses = []
    for number in numbers:
        total = int(block.layer.reachable(number).sum())
        for fraction in block.header.fractions:
            counts = schedule(kernels_kept(fraction, total), total, spec.force_steps)
            courses.append(ForceRun(number, counts))
    scores = force_scores(
        block.layer,
        courses,
        partial(block.batches, range(block.scoring)),
        response=spec.response,
    )
    by_unit = np.stack(scores).reshape(len(numbers), len(block.header.fractions), -1)
    return dict(zip(numbers, by_unit, strict=True))


def _prune(block: Block, key: UnitKey, force: Mapping[int, NDArray[np.float32]]) -> UnitPlan:
    """Scores and masks of every criterion, and the trials of their circuits."""
    full = block.full(key.unit)
    if not np.isfinite(full).all():
        bad = int((~np.isfinite(full)).any(axis=(1, 2)).argmax())
        name = block.source.images.infos[block.images[bad]].name
        raise NonFiniteError(
            f"unit {key.unit} of {key.layer!r} responds with NaN or infinity to image {name!r}; "
            "look at the weights and the preprocessing"
        )
    if key.unit not in block.live:
        return UnitPlan((), (), (), ())
    criteria = tuple(_criterion(block, key.unit, name, force) for name in block.header.criteria)
    places = range(len(block.images))
    trial = partial(CircuitRun, key.unit)
    sets, singles = [], []
    for record in criteria:
        own: list[tuple[int, NDArray[np.bool_]]] = []
        if record.image_scores is not None:
            ladders = (ladder(scores, block.header.fractions) for scores in record.image_scores)
            own = list(zip(block.top[key.unit], ladders, strict=True))
        for ablation in block.header.ablations:
            sets.append((record.name, trial(ablation, record.masks, full, places)))
            for place, masks in own:
                singles.append((record.name, trial(ablation, masks, full[[place]], [place])))
    top = block.top[key.unit]
    grouped = tuple(
        group_top_images(
            record.name,
            record.image_scores,
            number=key.unit,
            full=full,
            top=top,
            header=block.header,
        )
        for record in criteria
        if record.image_scores is not None
    )
    return UnitPlan(criteria, tuple(sets), tuple(singles), grouped)


def _criterion(
    block: Block, number: int, name: str, force: Mapping[int, NDArray[np.float32]]
) -> CriterionRecord:
    """Scores and masks of one criterion; each of FORCE's fractions has scores of its own."""
    spec = block.source.spec.circuits
    fractions = block.header.fractions
    reachable = block.layer.reachable(number)
    image_scores = None
    if name in block.scores:
        at = block.live.index(number)
        scores = block.scores[name].mean[at][None]
        image_scores = block.scores[name].kept[at]
    elif name == "force":
        scores = force[number]
    elif name == "magnitude":
        scores = magnitude_scores(block.layer, number)[None]
    else:
        scores = random_scores(block.layer, number, seed=spec.seed)[None]
    if not np.isfinite(scores[:, reachable]).all():
        raise NonFiniteError(
            f"unit {number} of {block.layer.index.layer!r} has {name} scores that are NaN or "
            "infinite; look at the weights and the preprocessing"
        )
    if name == "force":
        kept = [kernels_kept(fraction, int(reachable.sum())) for fraction in fractions]
        masks = np.stack([keep_best(run, k) for run, k in zip(scores, kept, strict=True)])
    else:
        masks = ladder(scores[0], fractions)
    return CriterionRecord(name, scores, masks, image_scores)


def _record(block: Block, key: UnitKey, unit: UnitPlan, compute_s: float) -> CircuitRecord:
    number = key.unit
    contribution = response_maps = None
    if unit.criteria:
        contribution = block.scores[CONTRIBUTION].mean[block.live.index(number)]
        response_maps = block.full(number)[list(block.top[number])]
    splits: list[Split] = ["scoring"] * block.scoring
    splits += ["held_out"] * (len(block.images) - block.scoring)
    return CircuitRecord(
        key=key,
        state="done" if unit.criteria else "dead",
        kernels=int(block.layer.reachable(number).sum()),
        criteria=unit.criteria,
        responses=response_rows(
            block.full(number),
            block.responses[block.numbers.index(number)],
            images=block.images,
            splits=splits,
            top=block.top[number] if unit.criteria else [],
            fields=block.fields,
        ),
        faithfulness=tuple(_faithfulness(block, unit)),
        subfeatures=tuple(_subfeatures(block, unit)),
        compute_s=compute_s,
        contribution=contribution,
        response_maps=response_maps,
        groups=tuple(row for some in unit.grouped for row in some.group_rows(block.images)),
        contrast=tuple(
            row
            for some in unit.grouped
            for row in some.contrast_rows(
                block.images, header=block.header, response=block.source.spec.circuits.response
            )
        ),
    )


def _faithfulness(block: Block, unit: UnitPlan) -> Iterator[FaithfulnessRow]:
    splits: tuple[tuple[Split, slice], ...] = (
        ("scoring", slice(0, block.scoring)),
        ("held_out", slice(block.scoring, len(block.images))),
    )
    for split, part in splits:
        for criterion, trial in unit.sets:
            if not len(trial.full[part]):
                continue
            reference = FullResponse(trial.full[part])
            for rung, fraction in enumerate(block.header.fractions):
                yield FaithfulnessRow(
                    criterion=criterion,
                    ablation=trial.ablation,
                    split=split,
                    response=block.header.response,
                    images=len(trial.full[part]),
                    rung=rung,
                    fraction=fraction,
                    kernels=int(trial.masks[rung].sum()),
                    **vars(reference.compare(trial.maps[rung, part])),
                )


def _subfeatures(block: Block, unit: UnitPlan) -> Iterator[SubfeatureRow]:
    for criterion, trial in unit.singles:
        reference = FullResponse(trial.full)
        for rung, fraction in enumerate(block.header.fractions):
            yield SubfeatureRow(
                criterion=criterion,
                ablation=trial.ablation,
                response=block.header.response,
                image=block.images[trial.places[0]],
                rung=rung,
                fraction=fraction,
                kernels=int(trial.masks[rung].sum()),
                **vars(reference.compare(trial.maps[rung])),
            )
