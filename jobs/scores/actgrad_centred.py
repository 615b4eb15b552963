"""Activation x gradient for mean ablation: what a kernel adds beyond its mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

from circuit_atlas.jobs.engine.conv_gradients import ConvCall
from circuit_atlas.jobs.scores.criteria import actgrad


def actgrad_centred(calls: Sequence[ConvCall]) -> Tensor:
    """Computes the mean over positions of |(A_oi - mean A_oi) * dr/dY_o|: (units, g, o, i).

    The mean is over the scoring images and all positions, which is what mean ablation leaves of a
    dropped kernel, so that the product is to first order what the response loses by it: attribution
    patching (Nanda 2023; Syed, Rager and Conmy 2023, arXiv 2310.10348) with the mean as the other
    activation, its absolute value taken position by position as in `actgrad`.

    As A_oi is linear in the unfolded input, it is `actgrad` of that less its own mean. ValueError
    where the calls were made without the means.
    """
    return actgrad([_centred(call) for call in calls])


def _centred(call: ConvCall) -> ConvCall:
    if call.centred is None:
        raise ValueError("the calls of actgrad_centred are made with the inputs' means")
    return replace(call, unfolded=call.centred, input=None)
