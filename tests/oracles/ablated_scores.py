"""Scores that know what stands for an ablated kernel, straight from their formulas, in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.convolutions import ConvCall, Target, double, layer_output, response, unit_map
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


def actgrad_centred(model: nn.Module, images: Tensor, target: Target) -> Scores:
    """Mean over positions of abs((A_oi - mean A_oi) · dr/dY_o), image by image; the mean is over
    these images: (images, out, in) each."""
    means = kernel_means(model, images, target.layer)
    return _scores(model, images, target, steps=1, less=means, ablated=None)


def integrated(
    model: nn.Module, images: Tensor, target: Target, *, steps: int, mean: bool
) -> Scores:
    """Mean over positions of abs((A_oi - what ablation leaves) · G_o), G_o the mean of dr/dY_o over
    networks with k / steps of every kernel, k = 1..steps, and the rest ablated."""
    means = kernel_means(model, images, target.layer) if mean else None
    return _scores(model, images, target, steps=steps, less=means, ablated=means)


def _scores(
    model: nn.Module,
    images: Tensor,
    target: Target,
    *,
    steps: int,
    less: Means | None,
    ablated: Means | None,
) -> Scores:
    model = double(model)
    rows: dict[str, list[np.ndarray]] = {}
    for image in images:
        gradients: dict[str, Tensor] = {}
        for step in range(1, steps + 1):
            calls, found = _walk(model, image, target, step / steps, ablated)
            for name, gradient in found.items():
                gradients[name] = gradients.get(name, 0) + gradient / steps
        # Of the last step: the whole network's.
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
    model: nn.Module, image: Tensor, target: Target, share: float, ablated: Means | None
) -> tuple[dict[str, ConvCall], dict[str, Tensor]]:
    """The calls of a network with a share of every kernel, and dr/dY of each."""
    calls: dict[str, ConvCall] = {}
    outputs: dict[str, Tensor] = {}

    def watch(call: ConvCall) -> Tensor:
        calls[call.name] = call
        # A leaf, so that a gradient goes back to the output of every convolution.
        output = call.run((share * call.weight).detach().requires_grad_())
        if ablated is not None:
            output = output + (1 - share) * ablated[call.name].sum(1)[None, :, None, None]
        outputs[call.name] = output
        # What follows may work in place.
        return output.clone()

    y = unit_map(layer_output(model, image, target.layer, watch), target.unit)
    found = torch.autograd.grad(
        response(y, target.response), list(outputs.values()), allow_unused=True
    )
    return calls, {
        name: torch.zeros_like(outputs[name][0]) if gradient is None else gradient[0]
        for name, gradient in zip(outputs, found, strict=True)
    }
