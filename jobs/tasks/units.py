"""The records of an open block's units: scores, masks, circuits run, and their faithfulness."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.connected import connected_masks
from circuit_atlas.jobs.circuits.faithfulness import FullResponse, class_auc, over_images
from circuit_atlas.jobs.circuits.image_sums import image_sums
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.circuits.responses import response_rows, responses_of
from circuit_atlas.jobs.circuits.selectivity import GroupedImages, group_top_images
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.over_images import magnitude_scores, random_scores
from circuit_atlas.jobs.tasks.block import START, Block
from circuit_atlas.jobs.tasks.rankings import learned_groups, learned_rankings
from circuit_atlas.storage_schema.errors import AtlasError, NonFiniteError, UnitError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.quantise import dequantise, quantise
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.records import (
    CircuitRecord,
    CriterionRecord,
    FailureRecord,
    FaithfulnessRow,
    Split,
    SubfeatureRow,
)
from circuit_atlas.storage_schema.stability import bootstrap


@dataclass(frozen=True)
class UnitPlan:
    """A unit's circuits and the runs that are to say how faithful they are; a dead unit's are
    empty.

    Attributes:
        criteria: scores and masks.
        sets: with its criterion, a run of the whole set's circuits on all images, for each
            ablation.
        singles: the same for the circuits of each top image, on that image; the top images are in
            the order of their ranks.
        grouped: groups of the top images, by criterion, with runs of the groups' circuits.
    """

    criteria: tuple[CriterionRecord, ...]
    sets: tuple[tuple[str, CircuitRun], ...]
    singles: tuple[tuple[str, CircuitRun], ...]
    grouped: tuple[GroupedImages, ...]


@dataclass(frozen=True)
class UnitScores:
    """The scores that units of a block are given together, by the unit's number.

    Attributes:
        force: (fractions, kernels), those that chose the circuit of each fraction.
        learned: (seeds, kernels), the ranking of each training.
        force_s: seconds that those of all units took.
        learned_s: the same of the rankings.
    """

    force: Mapping[int, NDArray[np.float32]]
    learned: Mapping[int, NDArray[np.float32]]
    force_s: float
    learned_s: float


def compute(block: Block, keys: Sequence[UnitKey]) -> Iterator[CircuitRecord | FailureRecord]:
    """Computes the record of every unit of the block, or records how it failed."""
    started = time.perf_counter()
    plans: dict[UnitKey, UnitPlan | FailureRecord] = {}
    live = [key.unit for key in keys if key.unit in block.live]
    scores = _of_units(block, live)
    for key in keys:
        try:
            plans[key] = _plan(block, key, scores)
        except UnitError as error:
            plans[key] = failure(key, error)
    runs: list[CircuitRun] = []
    for plan in plans.values():
        if isinstance(plan, UnitPlan):
            runs += [run for _, run in (*plan.sets, *plan.singles)]
            runs += [run for grouped in plan.grouped for _, run in grouped.runs]
    if runs:
        images = {index for run in runs for index in run.image_indices}
        block.progress.step("circuits", len(images), "images")
        run_circuits(block.layer, runs, block.counted, means=block.means)
    each_s = block.shared_s + (time.perf_counter() - started) / len(keys)
    for key, plan in plans.items():
        if isinstance(plan, FailureRecord):
            yield plan
        else:
            yield _record(block, key, plan, each_s)


def _of_units(block: Block, numbers: Sequence[int]) -> UnitScores:
    started = time.perf_counter()
    force = _force(block, numbers)
    between = time.perf_counter()
    learned = learned_rankings(block, numbers)
    return UnitScores(force, learned, between - started, time.perf_counter() - between)


def failure(key: UnitKey, error: Exception) -> FailureRecord:
    """Records how a unit failed: the error's kind, its line, and where it arose."""
    return FailureRecord(
        key=key,
        kind=error.kind if isinstance(error, AtlasError) else type(error).__name__,
        message=(str(error).strip().splitlines() or [type(error).__name__])[0],
        trace="".join(traceback.format_exception(error)),
    )


def _force(block: Block, numbers: Sequence[int]) -> dict[int, NDArray[np.float32]]:
    """For each unit the FORCE scores that chose the circuit of each fraction, (fractions,
    kernels)."""
    spec = block.opened.spec.circuits
    if "force" not in block.header.criteria or not numbers:
        return {}
    runs = []
    for number in numbers:
        total = int(block.layer.reachable(number).sum())
        for fraction in block.header.fractions:
            counts = schedule(kernels_kept(fraction, total), total, spec.force_steps)
            runs.append(ForceRun(number, counts))
    # A pass over the images before the first step, and one after each that takes a kernel away.
    block.progress.step("force", (1 + spec.force_steps) * block.scoring)
    scores = force_scores(
        block.layer,
        runs,
        partial(block.counted, range(block.scoring)),
        response=spec.response,
        score=spec.force_score,
        means=block.means,
    )
    by_unit = np.stack(scores).reshape(len(numbers), len(block.header.fractions), -1)
    return dict(zip(numbers, by_unit, strict=True))


def _plan(block: Block, key: UnitKey, scores: UnitScores) -> UnitPlan:
    """Scores and masks of every criterion, and the runs of their circuits."""
    full = block.full(key.unit)
    if not np.isfinite(full).all():
        bad = int((~np.isfinite(full)).any(axis=(1, 2)).argmax())
        name = block.opened.images.infos[block.images[bad]].name
        raise NonFiniteError(
            f"unit {key.unit} of {key.layer!r} responds with NaN or infinity to image {name!r}; "
            "look at the weights and the preprocessing"
        )
    if key.unit not in block.live:
        return UnitPlan((), (), (), ())
    criteria = tuple(_criterion(block, key.unit, name, scores) for name in block.header.criteria)
    every = range(len(block.images))
    run, top = partial(CircuitRun, key.unit), block.top[key.unit]
    sets, singles = [], []
    for record in criteria:
        of_images = None
        if record.image_scores is not None:
            each = [nested_masks(single, block.header.fractions) for single in record.image_scores]
            of_images = np.stack(each, axis=1)
        for ablation in block.header.ablations:
            sets.append((record.name, run(ablation, record.masks, full, every)))
            if of_images is not None:
                singles.append((record.name, run(ablation, of_images, full[list(top)], top)))
    grouped = [
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
    ]
    if "learned" in block.header.grouped:
        of_groups = learned_groups(block, key.unit)
        grouped.append(of_groups)
        criteria = tuple(
            replace(record, group_levels=of_groups.levels()) if record.name == "learned" else record
            for record in criteria
        )
    return UnitPlan(criteria, tuple(sets), tuple(singles), tuple(grouped))


def _criterion(block: Block, number: int, name: str, of_units: UnitScores) -> CriterionRecord:
    """Scores and masks of one criterion; FORCE has other scores for each fraction."""
    started = time.perf_counter()
    spec = block.opened.spec.circuits
    fractions = block.header.fractions
    reachable = block.layer.reachable(number)
    image_scores, together_s = None, 0.0  # what all units of the block took together
    if name in block.scores:
        row = block.live.index(number)
        scores = block.scores[name].mean[row][None]
        image_scores = block.scores[name].single[row]
        together_s = block.scores[name].compute_s
    elif name == "force":
        scores, together_s = of_units.force[number], of_units.force_s
    elif name == "learned":
        scores = of_units.learned[number][:1]
        together_s = of_units.learned_s + block.scores[START].compute_s
    elif name == "magnitude":
        scores = magnitude_scores(block.layer, number)[None]
    else:
        scores = random_scores(block.layer, number, seed=spec.seed)[None]
    if not np.isfinite(scores[:, reachable]).all():
        raise NonFiniteError(
            f"unit {number} of {block.layer.index.layer!r} has {name} scores that are NaN or "
            "infinite; look at the weights and the preprocessing"
        )
    masks_of = nested_masks
    if spec.connected:
        masks_of = partial(connected_masks, block.layer, number)
    if len(scores) > 1:
        pairs = zip(scores, fractions, strict=True)
        masks = np.concatenate([masks_of(row, [fraction]) for row, fraction in pairs])
    else:
        masks = masks_of(scores[0], fractions)
    compute_s = together_s / len(block.live) + time.perf_counter() - started
    stability = None
    if name in dict(block.header.redrawn):
        if image_scores is None:
            each = np.stack([masks_of(row, fractions) for row in of_units.learned[number]])
            stability = each.sum(axis=0, dtype=np.uint8)
        else:
            # Of the scores as they are stored: whoever reads them draws the same circuits.
            stored = dequantise(*quantise(image_scores))
            stability = bootstrap(stored, fractions, seed=spec.seed)
    return CriterionRecord(
        name, scores, masks, image_scores, compute_s=compute_s, stability=stability
    )


def _record(block: Block, key: UnitKey, plan: UnitPlan, compute_s: float) -> CircuitRecord:
    number = key.unit
    contribution = response_maps = None
    if plan.criteria:
        contribution = block.scores[CONTRIBUTION].mean[block.live.index(number)]
        response_maps = block.full(number)[list(block.top[number])]
    return CircuitRecord(
        key=key,
        state="done" if plan.criteria else "dead",
        kernels=int(block.layer.reachable(number).sum()),
        criteria=plan.criteria,
        responses=response_rows(
            block.full(number),
            block.responses[block.numbers.index(number)],
            images=block.images,
            splits=_splits(block),
            drawn=block.drawn,
            top=block.top[number] if plan.criteria else [],
            fields=block.fields,
        ),
        faithfulness=tuple(_faithfulness(block, number, plan)),
        subfeatures=tuple(_subfeatures(block, plan)),
        compute_s=compute_s,
        contribution=contribution,
        response_maps=response_maps,
        groups=tuple(row for each in plan.grouped for row in each.group_rows(block.images)),
        contrast=tuple(
            row
            for each in plan.grouped
            for row in each.contrast_rows(
                block.images, header=block.header, response=block.opened.spec.circuits.response
            )
        ),
        image_sums=_image_sums(block, plan),
    )


def _splits(block: Block) -> list[Split]:
    """The split of each image."""
    splits: list[Split] = ["scoring"] * block.scoring
    splits += ["held_out"] * (len(block.images) - block.scoring)
    return splits


def _image_sums(block: Block, plan: UnitPlan) -> pa.Table | None:
    if not block.opened.spec.run.image_sums or not plan.sets:
        return None
    splits = _splits(block)
    return pa.concat_tables(
        image_sums(criterion, run, images=block.images, splits=splits)
        for criterion, run in plan.sets
    )


def _faithfulness(block: Block, number: int, plan: UnitPlan) -> Iterator[FaithfulnessRow]:
    splits: tuple[tuple[Split, slice], ...] = (
        ("scoring", slice(0, block.scoring)),
        ("held_out", slice(block.scoring, len(block.images))),
    )
    for split, part in splits:
        for criterion, run in plan.sets:
            if not len(run.full[part]):
                continue
            full = FullResponse(run.full[part])
            explained = block.opened.spec.circuits.response
            in_network = responses_of(run.full[part], explained)
            in_class = None
            if block.classes is not None and (classes := block.classes.of(number)) is not None:
                in_class = classes[part]
            for level, fraction in enumerate(block.header.fractions):
                in_circuit = responses_of(run.maps[level, part], explained)
                yield FaithfulnessRow(
                    criterion=criterion,
                    ablation=run.ablation,
                    split=split,
                    response=block.header.response,
                    images=len(run.full[part]),
                    rung=level,
                    fraction=fraction,
                    kernels=int(run.masks[level].sum()),
                    **vars(full.compare(run.maps[level, part])),
                    pearson_images=over_images(in_circuit, in_network),
                    auc=_auc(run.maps[level, part], in_class),
                    auc_full=_auc(run.full[part], in_class),
                    acting=int(run.acting[level]),
                )


def _auc(maps: NDArray[np.floating], in_class: NDArray[np.floating] | None) -> float | None:
    """How well a vector's maps (images, 1, 1) tell the class; None where it has none."""
    return None if in_class is None else class_auc(maps[:, 0, 0], in_class)


def _subfeatures(block: Block, plan: UnitPlan) -> Iterator[SubfeatureRow]:
    for criterion, run in plan.singles:
        for n, index in enumerate(run.image_indices):
            full = FullResponse(run.full[n])
            for level, fraction in enumerate(block.header.fractions):
                yield SubfeatureRow(
                    criterion=criterion,
                    ablation=run.ablation,
                    response=block.header.response,
                    image=block.images[index],
                    rung=level,
                    fraction=fraction,
                    kernels=int(run.masks[level, n].sum()),
                    **vars(full.compare(run.maps[level, n])),
                    acting=int(run.acting[level, n]),
                )
