"""How far each criterion finds planted circuits, and agrees with ablating one kernel after another.

- AUROC: the chance that a planted kernel has a larger score than one that is not planted, equal
  ones counting half, over the kernels that can reach the unit. `force` is judged by the scores that
  chose its circuit of as many kernels as are planted.
- Recovered: the share of the planted kernels in the circuit of as many kernels; exact where it is
  all of them.
- Rank correlation: Spearman's, over kernels, of the score with what leaving the kernel out changes,
  the mean over images and positions of |y without it - y|. That is the exact effect of one kernel,
  which most scores estimate; it is no ground truth of a set, see `networks.cancelling`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from typing import get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.faithfulness import class_auc, correlation, is_constant
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.circuits.ranks import mean_ranks
from circuit_atlas.jobs.images.tensor_images import TensorImages
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.jobs.planted.networks import (
    NETWORKS,
    Kernel,
    PlantedNetwork,
    PlantedUnit,
    small,
)
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.tasks.block import Block, open_block
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import resolve_opened
from circuit_atlas.jobs.tasks.units import compute
from circuit_atlas.storage_schema.errors import SpecError, UnitError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord
from circuit_atlas.storage_schema.wording import nearest

CRITERIA: tuple[Criterion, ...] = get_args(Criterion)
STEPS = 60
"""Gradient steps of `learned` a fraction: enough for networks of a hundred kernels."""
# Of `small`, where nothing says how many.
_KEEP = 0.1


@dataclass(frozen=True)
class Recovery:
    """Says how far one criterion finds the circuit of one unit.

    Attributes:
        network: what is planted; `small` has no planted circuit.
        unit: the channel.
        sub_feature: its number where the scores are of its images alone, else None.
        criterion: whose scores.
        reachable: kernels that can reach the unit.
        planted: how many of them are its circuit; 0 where it is not known.
        auroc: None where no circuit is planted.
        recovered: None where no circuit is planted.
        exact: None where no circuit is planted.
        rank_correlation: None for a sub-feature.
    """

    network: str
    unit: int
    sub_feature: int | None
    criterion: str
    reachable: int
    planted: int
    auroc: float | None
    recovered: float | None
    exact: bool | None
    rank_correlation: float | None


def ground_truth(
    criteria: Sequence[Criterion] = CRITERIA, *, seed: int = 0, steps: int = STEPS
) -> pa.Table:
    """Hold criteria against every planted network, and against single ablations.

    A row a network, unit, sub-feature and criterion, with the columns of `Recovery`. `learned` is
    trained for `steps` a fraction, on 12 images. Takes some ten seconds of one core.

    Args:
        criteria: some of those that a spec offers. Default: all.
        seed: of the planted weights, the images and whatever is drawn.
        steps: of the criterion `learned`.

    Raises:
        SpecError: there is no such criterion.
    """
    for name in criteria:
        if name not in CRITERIA:
            raise SpecError(
                f"there is no criterion {name!r}: {nearest(name, CRITERIA, what='criteria')}"
            )
    rows = [
        row
        for make in (*NETWORKS.values(), small)
        for row in recovery(make(seed), criteria, seed=seed, steps=steps)
    ]
    return pa.Table.from_pylist([asdict(row) for row in rows], _SCHEMA)


def recovery(
    network: PlantedNetwork, criteria: Sequence[Criterion], *, seed: int, steps: int
) -> Iterator[Recovery]:
    """Hold criteria against one network."""
    for unit in network.units:
        block, record = _computed(network, unit, criteria, seed=seed, steps=steps)
        effects = ablated_alone(block, unit.number)
        for each in record.criteria:
            agreed = rank_correlation(each.scores[0], effects)
            held = _Held(each.name, each.scores[0], each.masks[0], unit.kernels, None, agreed)
            yield _row(network, unit, block, held)
            if each.image_scores is not None:
                for number, part in enumerate(unit.sub_features):
                    ranks = [block.top[unit.number].index(image) for image in part.images]
                    scores = each.image_scores[ranks].mean(axis=0, dtype=np.float64)
                    mask = keep_best(scores, len(part.kernels))
                    held = _Held(each.name, scores, mask, part.kernels, number, None)
                    yield _row(network, unit, block, held)


def ablated_alone(block: Block, number: int) -> NDArray[np.float64]:
    """Measure what leaving out one kernel changes: the mean over scoring images and positions of
    |y without it - y|, zero ablation. Shape: (kernels,), NaN where one cannot reach the unit."""
    reach = np.flatnonzero(block.layer.reachable(number))
    masks = np.zeros((len(reach), block.layer.upstream.index.size), np.bool_)
    masks[:, reach] = True
    masks[np.arange(len(reach)), reach] = False
    full = block.full(number)[: block.scoring]
    run = CircuitRun(number, "zero", masks, full, range(block.scoring))
    run_circuits(block.layer, [run], block.batches, means=None)
    effects = np.full(masks.shape[1], np.nan)
    effects[reach] = np.abs(run.maps.astype(np.float64) - full).mean(axis=(1, 2, 3))
    return effects


def rank_correlation(scores: NDArray[np.floating], effects: NDArray[np.float64]) -> float | None:
    """Compute Spearman's rank correlation over the kernels that can reach the unit, NaN in both
    where one cannot; None where either is constant."""
    known = ~np.isnan(effects)
    ranks = [mean_ranks(each[known].astype(np.float64)) for each in (scores, effects)]
    return None if any(is_constant(each) for each in ranks) else correlation(*ranks)


@dataclass(frozen=True)
class _Held:
    """Scores and circuit of a criterion, to be held against the kernels that are planted."""

    criterion: str
    scores: NDArray[np.floating]
    mask: NDArray[np.bool_]
    kernels: frozenset[Kernel]
    sub_feature: int | None
    rank_correlation: float | None


def _row(network: PlantedNetwork, unit: PlantedUnit, block: Block, held: _Held) -> Recovery:
    index, reach = block.layer.index, block.layer.reachable(unit.number)
    truth = _mask(index, unit.number, held.kernels)[reach]
    inside, planted = held.mask[reach], int(truth.sum())
    return Recovery(
        network=network.name,
        unit=unit.number,
        sub_feature=held.sub_feature,
        criterion=held.criterion,
        reachable=len(truth),
        planted=planted,
        auroc=class_auc(held.scores[reach], truth.astype(np.float64)),
        recovered=float((inside & truth).sum() / planted) if planted else None,
        exact=bool((inside == truth).all()) if planted else None,
        rank_correlation=held.rank_correlation,
    )


def _mask(index: LayerIndex, number: int, kernels: frozenset[Kernel]) -> NDArray[np.bool_]:
    """Marks kernels on the layer's axis."""
    convolutions = index.index.convolutions
    own = index.unit(number).rows
    ordinals, rows, columns = index.index.locate(np.arange(index.index.size), own)
    named = zip(ordinals.tolist(), rows.tolist(), columns.tolist(), strict=True)
    return np.array(
        [
            (c.name, row, column % c.in_channels) in kernels
            for c, row, column in ((convolutions[n], row, column) for n, row, column in named)
        ]
    )


def _computed(
    network: PlantedNetwork,
    unit: PlantedUnit,
    criteria: Sequence[Criterion],
    *,
    seed: int,
    steps: int,
) -> tuple[Block, CircuitRecord]:
    """Computes a unit as a build does, with circuits of as many kernels as are planted."""
    loaded, images = copy_model(network.module), len(network.images)
    kept = len(unit.kernels) / network.reachable or _KEEP
    spec = BuildSpec.from_values(
        {
            "model": {"reference": loaded.reference},
            "images": {"source": "memory:"},
            "layers": [{"name": network.layer, "units": [unit.number]}],
            "circuits": {
                "criteria": list(criteria),
                "fractions": [kept],
                "top_images": images if unit.sub_features else 1,
                "seed": seed,
            },
            "learned": {"steps": steps, "batch": images, "seed": seed},
            "run": {"device": "cpu"},
        }
    )
    opened = OpenedSpec(spec, model=loaded, images=TensorImages(network.images))
    header = resolve_opened(opened).header
    layer = opened.layer(network.layer)
    block = open_block(opened, layer, header, [unit.number], together=images, unit_labels={})
    (record,) = compute(block, [UnitKey(header.model, network.layer, unit.number)])
    if isinstance(record, FailureRecord):
        raise UnitError(record.message)
    return block, record


_ARROW = {"str": pa.string(), "int": pa.int32(), "bool": pa.bool_(), "float": pa.float64()}
_SCHEMA = pa.schema(
    [
        pa.field(each.name, _ARROW[kind.partition(" ")[0]], nullable="None" in kind)
        for each in fields(Recovery)
        for kind in [str(each.type)]
    ]
)
