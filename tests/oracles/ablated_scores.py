"""Scores that know what stands for an ablated kernel, straight from their formulas, in float64."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.convolutions import (
    ConvCall,
    Masks,
    Target,
    double,
    layer_output,
    response,
    unit_map,
)
from tests.oracles.scores import Scores

Means = dict[str, Tensor]
"""Of each convolution, every kernel's mean contribution: (out, in of a group)."""


def kernel_means(model: nn.Module, images: Tensor, layer: str) -> Means:
    """The mean of every A_oi over the images and all positions."""
    totals: Means = {}

    def watch(call: ConvCall) -> Tensor:
        found = torch.tensor(
            [
                [float(call.kernel_map(out, column).mean()) for column in range(weight.shape[0])]
                for out, weight in enumerate(call.weight)
            ],
            dtype=torch.float64,
        )
        totals[call.name] = totals.get(call.name, torch.zeros_like(found)) + found / len(images)
        return call.run(call.weight)

    model = double(model)
    with torch.no_grad():
        for image in images:
            layer_output(model, image, layer, watch)
    return totals


def actgrad_centred(
    model: nn.Module, images: Tensor, target: Target, *, masks: Masks | None = None
) -> Scores:
    """Mean over positions of abs((A_oi - mean A_oi) · dr/dY_o), image by image; the mean is over
    these images: (images, out, in) each.

    With `masks`, inputs and gradient are those of the network whose masked kernels are their means
    in the whole one, and A_oi is what the kernel makes of them.
    """
    means = kernel_means(model, images, target.layer)
    return _scores(model, images, target, [images], less=means, masks=masks)


def integrated(
    model: nn.Module, images: Tensor, target: Target, *, steps: int, mean: bool
) -> Scores:
    """Mean over positions of abs((A_oi - what ablation leaves) · G_o), G_o the mean of dr/dY_o over
    images k / steps of the way, k = 1..steps, from the mean colour of these to each."""
    colour = images.transpose(0, 1).flatten(1).mean(1)[None, :, None, None]
    way = [colour + (images - colour) * (step / steps) for step in range(1, steps + 1)]
    means = kernel_means(model, images, target.layer) if mean else None
    return _scores(model, images, target, way, less=means)


def _scores(
    model: nn.Module,
    images: Tensor,
    target: Target,
    way: Sequence[Tensor],
    *,
    less: Means | None,
    masks: Masks | None = None,
) -> Scores:
    """`way` holds images in the place of these, those themselves last."""
    model = double(model)
    rows: dict[str, list[np.ndarray]] = {}
    for number in range(len(images)):
        gradients: dict[str, Tensor] = {}
        for between in way:
            calls, found = _walk(model, between[number], target, masks or {}, less or {})
            for name, gradient in found.items():
                gradients[name] = gradients.get(name, 0) + gradient / len(way)
        # Of the last step: the image's own.
        for name, call in calls.items():
            scores = np.zeros(call.weight.shape[:2])
            for out, column in np.ndindex(*scores.shape):
                change = call.kernel_map(out, column).detach()
                if less is not None:
                    change = change - less[name][out, column]
                scores[out, column] = float((change * gradients[name][out]).abs().mean())
            rows.setdefault(name, []).append(scores)
    return {name: np.stack(each) for name, each in rows.items()}


def _walk(
    model: nn.Module, image: Tensor, target: Target, masks: Masks, means: Means
) -> tuple[dict[str, ConvCall], dict[str, Tensor]]:
    """The calls of a pass, and dr/dY of each."""
    calls: dict[str, ConvCall] = {}
    outputs: dict[str, Tensor] = {}

    def watch(call: ConvCall) -> Tensor:
        calls[call.name] = call
        weight, kept = call.weight.detach(), masks.get(call.name)
        if kept is not None:
            weight = weight * kept[:, :, None, None]
        output = call.run(weight.requires_grad_())
        if kept is not None:
            output = output + (means[call.name] * ~kept).sum(1)[None, :, None, None]
        outputs[call.name] = output
        # What follows may work in place.
        return outputs[call.name].clone()

    y = unit_map(layer_output(model, image, target.layer, watch), target.unit)
    found = torch.autograd.grad(
        response(y, target.response), list(outputs.values()), allow_unused=True
    )
    return calls, {
        name: torch.zeros_like(outputs[name][0]) if gradient is None else gradient[0]
        for name, gradient in zip(outputs, found, strict=True)
    }
