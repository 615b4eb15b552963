"""What travels between a worker and the store: one record a unit, one receipt back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.keys import Numbered, UnitKey
from circuit_atlas.storage_schema.sample import Why

Split = Literal["scoring", "held_out"]
State = Literal["done", "dead", "failed"]


@dataclass(frozen=True)
class ResponseRow:
    """Says what one image does to the unit. Boxes are pixels of the network's input, half-open."""

    image: int
    split: Split
    response: float
    maximum: float
    position_y: int
    position_x: int
    box_top: int
    box_left: int
    box_bottom: int
    box_right: int
    rank: int | None
    drawn: Why | None = None


@dataclass(frozen=True)
class FaithfulnessRow:
    """Says how well the unit's circuit of one kept fraction preserves its response on one split."""

    criterion: str
    ablation: str
    split: Split
    response: str
    images: int
    rung: int
    fraction: float
    kernels: int
    pearson: float | None
    spearman: float | None
    relative_l1: float | None
    change_at_maximum: float | None
    firing: float | None = None
    firing_full: float | None = None
    pearson_images: float | None = None
    auc: float | None = None
    auc_full: float | None = None
    acting: int | None = None


@dataclass(frozen=True)
class SubfeatureRow:
    """Says the same for the circuit of one top image, on that image."""

    criterion: str
    ablation: str
    response: str
    image: int
    rung: int
    fraction: float
    kernels: int
    pearson: float | None
    spearman: float | None
    relative_l1: float | None
    change_at_maximum: float | None
    firing: float | None = None
    firing_full: float | None = None
    acting: int | None = None


@dataclass(frozen=True)
class GroupRow:
    """Says which sub-feature group a top image is of; groups count from 0, the largest first."""

    criterion: str
    image: int
    group: int
    groups: int
    silhouette: float | None


@dataclass(frozen=True)
class ContrastRow:
    """What a group's circuit makes of one top image, inside the group or outside: r of the circuit
    and r of the whole network."""

    criterion: str
    ablation: str
    group: int
    rung: int
    fraction: float
    kernels: int
    image: int
    inside: bool
    response: float
    full: float
    acting: int | None = None


@dataclass(frozen=True)
class CriterionRecord:
    """Holds one criterion's result for one unit.

    Attributes:
        name: the criterion.
        scores: (runs, kernels) float32, NaN where a kernel cannot reach the unit. One run where
            one score serves every fraction; a run a fraction where each has its own (`force`).
        masks: (fractions, kernels) bool, in the ladder's order, from the largest circuit down.
        image_scores: (top images, kernels) float32 in the order of rank, or None where the score
            does not depend on images.
        compute_s: time that it took to choose its circuits, in seconds, or None where nobody
            looked: of work that units share the unit's share, of work that criteria share all.
        stability: (fractions, kernels) uint8, how many draws' circuits hold the kernel, or None
            where they were not drawn anew.
        group_levels: (groups, kernels) uint8, how many of a sub-feature group's circuits hold the
            kernel, or None where no circuits are chosen for groups, or there is one group.
    """

    name: str
    scores: NDArray[np.float32]
    masks: NDArray[np.bool_]
    image_scores: NDArray[np.float32] | None
    compute_s: float | None = None
    stability: NDArray[np.uint8] | None = None
    group_levels: NDArray[np.uint8] | None = None


@dataclass(frozen=True)
class CircuitRecord:
    """Holds all that is stored of one unit. A dead unit (its response is the same constant on every
    image) has responses and nothing else.

    Attributes:
        kernels: N, how many can reach the unit.
        contribution: (kernels,) float32, signed, NaN where a kernel cannot reach the unit.
        response_maps: (top images, height, width) float32 in the order of rank.
        groups: a row a criterion of the header's `group_criteria`, and top image.
        contrast: empty where there is one group.
        image_sums: rows of `unit_tables.IMAGE_SUMS`, or None where nobody asked for them.
    """

    key: UnitKey
    state: Literal["done", "dead"]
    kernels: int
    criteria: tuple[CriterionRecord, ...]
    responses: tuple[ResponseRow, ...]
    faithfulness: tuple[FaithfulnessRow, ...]
    subfeatures: tuple[SubfeatureRow, ...]
    compute_s: float
    contribution: NDArray[np.float32] | None = None
    response_maps: NDArray[np.float32] | None = None
    groups: tuple[GroupRow, ...] = ()
    contrast: tuple[ContrastRow, ...] = ()
    image_sums: pa.Table | None = None


@dataclass(frozen=True)
class FailureRecord:
    """Says why a unit could not be computed."""

    key: UnitKey
    kind: str
    message: str
    trace: str


@dataclass(frozen=True)
class Receipt:
    """What a worker sends back for one unit: small, never a tensor. `of` comes of the task: where
    that is of channels, the key names one."""

    key: UnitKey
    state: State
    attempt: int
    size_bytes: int
    compute_s: float
    kind: str | None = None
    message: str | None = None
    of: Numbered = "unit"
