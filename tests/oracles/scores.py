"""The published scores straight from their formulas, kernel by kernel and image by image.

Every result is a dictionary from a convolution's name, in the order in which they run, to a float64
array whose last two axes are (out channels, in channels of a group). Kernels that cannot reach the
target come out as 0; which those are, `tests.oracles.reach` finds out in another way.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.oracles.convolutions import (
    ConvCall,
    Masks,
    Target,
    convolutions,
    double,
    layer_output,
    response,
    unit_map,
)

Scores = dict[str, NDArray[np.float64]]
Kind = Literal["actgrad", "contribution", "snip"]


def actgrad(
    model: nn.Module, images: Tensor, target: Target, *, masks: Masks | None = None
) -> Scores:
    """Mean over positions of abs(A_oi · dr/dY_o), image by image: (images, out, in) each.

    With `masks`, inputs and gradient are those of the masked network, and A_oi is what the kernel
    from before masking makes of them.
    """
    return _per_image("actgrad", model, images, target, masks)


def contribution(model: nn.Module, images: Tensor, target: Target) -> Scores:
    """Mean over positions of A_oi · dr/dY_o, with its sign, image by image: (images, out, in)."""
    return _per_image("contribution", model, images, target, None)


def snip(model: nn.Module, images: Tensor, target: Target, *, masks: Masks | None = None) -> Scores:
    """Mean over the kernel's weights of abs(w · dr/dw), image by image: (images, out, in) each.

    With `masks`, the gradient is taken in the masked network at w' = m · w and multiplied by the w
    from before masking. That is FORCE's abs(dr/dm), a mask entry a weight, averaged over a kernel.
    """
    return _per_image("snip", model, images, target, masks)


def magnitude(model: nn.Module, image: Tensor) -> Scores:
    """Mean abs(w): (out, in) each. The image (3, H, W) only tells which convolutions run."""
    return {
        name: np.array([[float(kernel.abs().mean()) for kernel in row] for row in weight])
        for name, weight in convolutions(model, image).items()
    }


def over_set(per_image: Scores) -> Scores:
    """A set's score: the mean over its images of the per-image score."""
    return {name: array.mean(axis=0) for name, array in per_image.items()}


def schedule(kernels: int, keep: int, steps: int) -> tuple[int, ...]:
    """FORCE's numbers of kernels: k_t = ceil(exp(t/T ln keep + (1 - t/T) ln kernels)), t = 1..T.

    k_T is `keep` by definition; computed, exp(ln keep) can come out a hair above and be rounded up.
    """
    return (
        *(
            math.ceil(math.exp(t / steps * math.log(keep) + (1 - t / steps) * math.log(kernels)))
            for t in range(1, steps)
        ),
        keep,
    )


@dataclass(frozen=True)
class ForceStep:
    """The scores seen at one step, (out, in) each, and the mask made of them."""

    scores: Scores
    masks: Masks


@dataclass(frozen=True)
class Force:
    """FORCE's steps in order, and the scores in the network that the last mask leaves."""

    steps: tuple[ForceStep, ...]
    scores_after: Scores

    @property
    def masks(self) -> Masks:
        """The circuit: the mask of the last step."""
        return self.steps[-1].masks


def force(
    model: nn.Module,
    images: Tensor,
    target: Target,
    *,
    reach: Masks,
    counts: Sequence[int],
    score: Callable[..., Scores] = snip,
) -> Force:
    """Iterative pruning: at each step, score in the network masked by the step before, over all
    kernels that reach the target, and keep the `counts[t]` best. A dropped kernel can come back."""
    masks = {name: torch.ones_like(kept) for name, kept in reach.items()}
    steps = []
    for count in counts:
        scores = over_set(score(model, images, target, masks=masks))
        masks = keep_top(scores, reach, count)
        steps.append(ForceStep(scores, masks))
    return Force(tuple(steps), over_set(score(model, images, target, masks=masks)))


def keep_top(scores: Scores, reach: Masks, count: int) -> Masks:
    """Masks of exactly `count` kernels: largest score first, then the earlier convolution, then the
    smaller (out, in)."""
    ranked = sorted(
        (-float(scores[name][out, column]), ordinal, out, column, name)
        for ordinal, name in enumerate(reach)
        for out, column in reach[name].nonzero().tolist()
    )
    masks = {name: torch.zeros_like(kept) for name, kept in reach.items()}
    for _, _, out, column, name in ranked[:count]:
        masks[name][out, column] = True
    return masks


def kernels(reach: Masks) -> int:
    """N, the number of kernels that a mask holds."""
    return sum(int(kept.sum()) for kept in reach.values())


def _per_image(
    kind: Kind,
    model: nn.Module,
    images: Tensor,
    target: Target,
    masks: Masks | None,
) -> Scores:
    model = double(model)
    rows = [_one_image(kind, model, image, target, masks) for image in images]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _one_image(
    kind: Kind,
    model: nn.Module,
    image: Tensor,
    target: Target,
    masks: Masks | None,
) -> Scores:
    calls: dict[str, ConvCall] = {}
    leaves: dict[str, Tensor] = {}

    def watch(call: ConvCall) -> Tensor:
        calls[call.name] = call
        weight = call.weight.detach()
        if masks is not None and call.name in masks:
            weight = weight * masks[call.name][:, :, None, None]
        weight.requires_grad_()
        output = call.run(weight)
        leaves[call.name] = weight if kind == "snip" else output
        # What follows may work in place; the leaf must keep the convolution's own result.
        return output.clone()

    y = unit_map(layer_output(model, image, target.layer, watch), target.unit)
    gradients = torch.autograd.grad(
        response(y, target.response), list(leaves.values()), allow_unused=True
    )
    with torch.no_grad():
        return _averages(kind, calls, gradients)


def _averages(
    kind: Kind,
    calls: dict[str, ConvCall],
    gradients: Sequence[Tensor | None],
) -> Scores:
    scores: Scores = {}
    for (name, call), gradient in zip(calls.items(), gradients, strict=True):
        out_channels, columns = call.weight.shape[:2]
        scores[name] = np.zeros((out_channels, columns))
        if gradient is None:
            continue  # The convolution runs, but nothing of it leads to the target.
        for out in range(out_channels):
            for column in range(columns):
                if kind == "snip":
                    product = call.weight[out, column] * gradient[out, column]
                else:
                    product = call.kernel_map(out, column) * gradient[0, out]
                if kind != "contribution":
                    product = product.abs()
                scores[name][out, column] = float(product.mean())
    return scores
