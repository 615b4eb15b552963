"""The `[features]` table of a spec: the feature visualizations to make, and how."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, field_validator

from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.spec.section import Listed, Section

_Positive = Annotated[int, Field(ge=1)]


class FeaturesSpec(Section):
    """`[features]`: images made to drive units. None of it changes a circuit or its numbers.

    Attributes:
        criterion: the one whose circuits visualizations are made through. Default: the first of
            `circuits.criteria`.
        fractions: kept fractions of those circuits, each in (0, 1]; none for the whole network
            alone. Default: 0.3 alone.
        groups: make one through the circuit of each sub-feature group too, where there are two or
            more. Default: true.
        negative: make visualizations of the smallest response too. Default: true.
        nodes: make one of each channel that lies in the circuits of `node_fraction`. Default: true.
        node_fraction: kept fraction of the circuits whose channels get visualizations. Default:
            0.1.
        size: height and width in pixels. Default: twice what the unit sees, at least 64 and at most
            the network's input.
        steps: steps of gradient ascent. Default: 96.
        node_steps: the same, for channels. Default: 48.
        learning_rate: Adam's, on Fourier coefficients. Default: 0.1.
        tries: how often a visualization is begun, with other noise and twice the steps each time,
            until it shows something and drives the unit more than any image does. Default: 3.
        seed: decides whatever is drawn. Default: 0.
    """

    criterion: Criterion | None = None
    fractions: Annotated[tuple[float, ...], Listed] = (0.3,)
    groups: bool = True
    negative: bool = True
    nodes: bool = True
    node_fraction: float = 0.1
    size: Annotated[int, Field(ge=16)] | None = None
    steps: _Positive = 96
    node_steps: _Positive = 48
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    tries: _Positive = 3
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("fractions")
    @classmethod
    def _descending(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for fraction in value:
            _check_fraction(fraction)
        return tuple(sorted(set(value), reverse=True))

    @field_validator("node_fraction")
    @classmethod
    def _fraction(cls, value: float) -> float:
        _check_fraction(value)
        return value


def _check_fraction(fraction: float) -> None:
    if not (math.isfinite(fraction) and 0 < fraction <= 1):
        raise ValueError(f"{fraction} is outside (0, 1]: a fraction of kernels to keep")
