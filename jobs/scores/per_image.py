"""The criteria that score one image at a time, by name, and several of them in one call.

`actgrad` and `snip` share their work with the signed contribution, and stand in `criteria`; `cla`
has a walk back of its own. Every other criterion of this kind has a file here, `NAME.py` with a
function `NAME` of the same form; its name among `spec.circuits.Criterion` is all that makes it one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from typing import get_args

from torch import Tensor

from circuit_atlas.jobs.engine.conv_gradients import ConvCall
from circuit_atlas.jobs.scores.criteria import (
    CONTRIBUTION,
    actgrad,
    actgrad_and_contribution,
    snip,
    snip_and_contribution,
)
from circuit_atlas.jobs.spec.circuits import Criterion

Score = Callable[[Sequence[ConvCall]], Tensor]

# Scores of a unit as a whole, which `tasks.units` computes.
_PER_UNIT = ("force", "learned", "magnitude", "random")
_SHARED: dict[str, Score] = {"actgrad": actgrad, "snip": snip}


def score_of(name: str) -> Score:
    """Finds the function that a criterion's name stands for."""
    if name in _SHARED:
        return _SHARED[name]
    score: Score = getattr(import_module(f"circuit_atlas.jobs.scores.{name}"), name)
    return score


PER_IMAGE = {name: score_of(name) for name in get_args(Criterion) if name not in _PER_UNIT}
"""Scores that are means over images, and so can be recombined for any set of them."""
CENTRED = frozenset({"actgrad_centred"})
"""Those of them whose calls are made with the inputs' means."""
ALONG_PATH = frozenset({"integrated"})
"""Those of them whose calls have gradients averaged along an `ImagePath`."""

OWN_WALK = frozenset({"cla"})
"""Those of them that score all convolutions of an image at once."""


def site_scores(calls: Sequence[ConvCall], names: Collection[str]) -> dict[str, Tensor]:
    """Computes several of `PER_IMAGE` and `contribution` for one convolution, (units, g, o, i)
    each, with as little work as they need together, from calls as they all need them."""
    scores: dict[str, Tensor] = {}
    if "snip" in names:
        scores["snip"], scores[CONTRIBUTION] = snip_and_contribution(calls)
    elif CONTRIBUTION in names:
        scores["actgrad"], scores[CONTRIBUTION] = actgrad_and_contribution(calls)
    return {name: scores[name] if name in scores else PER_IMAGE[name](calls) for name in names}
