"""The `[circuits]` table of a spec: what is explained, how kernels are scored, what is kept."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from circuit_atlas.jobs.spec.section import Listed, Positive, Section

Criterion = Literal[
    "actgrad",
    "actgrad_centred",
    "integrated",
    "cla",
    "snip",
    "force",
    "learned",
    "magnitude",
    "random",
]
Iterated = Literal["snip", "actgrad", "actgrad_centred"]
Ablation = Literal["zero", "mean"]

FRACTIONS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)


class DrawnSpec(Section):
    """`scoring` and `held_out` of `[circuits]`: the images of a split that a unit has to itself.

    Attributes:
        top: how many of the split's images with the largest response.
        random: how many more, drawn from the others.
    """

    top: Annotated[int, Field(ge=0)]
    random: Annotated[int, Field(ge=0)]


class CircuitsSpec(Section):
    """`[circuits]`: what is explained, how kernels are scored and how many are kept.

    Attributes:
        response: the number that explains a unit's output y: `sum_abs`, `max`, or `[y, x]`, the
            value at one position. Default: "sum_abs".
        criteria: the scores to compute. Default: "actgrad" alone.
        fractions: the fractions of the kernels to keep, each in (0, 1], sorted in descending order.
            Default: `FRACTIONS`.
        connected: let kernels on dead ends give way to the next best on a path from the image to
            the unit, see `jobs.circuits.connected`. Default: false.
        ablation: what a dropped kernel becomes: `zero`, or its `mean` over the scoring images.
            Default: "zero" alone.
        top_images: how many images a unit gets scores for single images on. Default: 10.
        stability: store how often each kernel is in the circuits when those images are drawn anew,
            see `storage_schema.stability`, for each criterion that scores single images. Default:
            false.
        scoring: the scoring images of a unit: `all`, or its top ones and some drawn from the rest.
            Default: all of a small set, see `jobs.tasks.sample`.
        held_out: the same of the held-out images.
        force_steps: steps of the iterative score. Default: 10.
        force_score: the score that it iterates. Default: "snip", as published.
        integrated_steps: images on the way from one of a single colour to the whole one whose
            gradients `integrated` averages. Default: 5.
        precision: of multiplications on a GPU: `float32`, or `tf32`, which keeps 10 bits of what is
            multiplied. Other devices always compute in float32. Default: "float32".
        seed: decides whatever is drawn. Default: 0.
    """

    response: Literal["sum_abs", "max"] | Annotated[tuple[int, int], Listed] = "sum_abs"
    criteria: Annotated[tuple[Criterion, ...], Listed, Field(min_length=1)] = ("actgrad",)
    fractions: Annotated[tuple[float, ...], Listed, Field(min_length=1)] = FRACTIONS
    connected: bool = False
    ablation: Annotated[tuple[Ablation, ...], Listed, Field(min_length=1)] = ("zero",)
    top_images: Positive = 10
    stability: bool = False
    scoring: Literal["all"] | DrawnSpec | None = None
    held_out: Literal["all"] | DrawnSpec | None = None
    force_steps: Positive = 10
    force_score: Iterated = "snip"
    integrated_steps: Positive = 5
    precision: Literal["float32", "tf32"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("response", mode="before")
    @classmethod
    def _what(cls, value: object) -> object:
        if value in ("sum_abs", "max"):
            return value
        numbers = value if isinstance(value, list | tuple) else ()
        if len(numbers) == 2 and all(type(n) is int and n >= 0 for n in numbers):
            return tuple(numbers)
        raise ValueError('should be "sum_abs", "max", or a position [y, x] from [0, 0]')

    @field_validator("scoring", "held_out", mode="before")
    @classmethod
    def _images(cls, value: object) -> object:
        if value in ("all", None) or isinstance(value, DrawnSpec):
            return value
        numbers = value if isinstance(value, dict) else {}
        counts = list(numbers.values())
        whole = all(type(count) is int and count >= 0 for count in counts)
        if numbers.keys() == {"top", "random"} and whole and any(counts):
            return DrawnSpec(**numbers)
        raise ValueError('should be "all", or numbers of images: {top = 64, random = 64}')

    @field_validator("scoring")
    @classmethod
    def _scored(
        cls, value: Literal["all"] | DrawnSpec | None, info: ValidationInfo
    ) -> Literal["all"] | DrawnSpec | None:
        """A unit's top images are among those that it is scored on."""
        least = info.data.get("top_images", 0)
        if isinstance(value, DrawnSpec) and value.top < least:
            raise ValueError(f"has top = {value.top}: give {least}, as many as top_images, or more")
        return value

    @field_validator("fractions")
    @classmethod
    def _kept_fractions(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for fraction in value:
            if not (math.isfinite(fraction) and 0 < fraction <= 1):
                raise ValueError(f"{fraction} is outside (0, 1]: a fraction of kernels to keep")
        return tuple(sorted(set(value), reverse=True))

    @field_validator("criteria", "ablation")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))
