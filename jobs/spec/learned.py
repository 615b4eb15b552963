"""The `[learned]` table of a spec: how the criterion `learned` is trained."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from circuit_atlas.jobs.spec.circuits import Ablation
from circuit_atlas.jobs.spec.section import Section


class LearnedSpec(Section):
    """`[learned]`: how rankings of kernels are trained.

    Attributes:
        steps: gradient steps for the circuits of each fraction. Default: 130.
        crop: height and width in pixels of the crops of the scoring images. Default: four sevenths
            of the input's, at least 64; all of the input where the network takes no other size.
        batch: crops a step. Default: 6.
        rate: of the gradient steps, where half of the kernels or more are kept; it grows as fewer
            are. Default: 0.0015.
        seed: decides which crops are drawn. Default: 0.
        seeds: how many rankings are trained, from as many seeds one after the other. The first
            chooses the circuits; of more than one it is stored in how many trainings' circuits each
            kernel is. Default: 1.
        groups: train circuits of each of a unit's sub-feature groups too, on that group's images
            alone; each group takes about as long as the unit. Default: false.
        ablation: what a pruned kernel is while circuits are trained: `zero` or `mean`. Default: the
            first of `circuits.ablation`.
    """

    steps: Annotated[int, Field(ge=1, le=100_000)] = 130
    crop: Annotated[int, Field(ge=16)] | None = None
    batch: Annotated[int, Field(ge=1, le=1024)] = 6
    rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.0015
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    groups: bool = False
    ablation: Ablation | None = None
