"""Cross-layer attribution of kernels: one image at a time, plain autograd, loops over kernels.

Every convolution's output is a leaf, so that gradients end there: what lies between convolutions is
all that they go through.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from tests.oracles.convolutions import ConvCall, Target, double, layer_output, response, unit_map
from tests.oracles.scores import Scores


def cla(model: nn.Module, images: Tensor, target: Target) -> Scores:
    """Relevance of the output channel, shared among its kernels by activation x gradient: (images,
    out, in) each."""
    model = double(model)
    rows = [_one_image(model, image, target) for image in images]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _one_image(model: nn.Module, image: Tensor, target: Target) -> Scores:
    calls: dict[str, ConvCall] = {}
    leaves: dict[str, Tensor] = {}

    def watch(call: ConvCall) -> Tensor:
        calls[call.name] = call
        leaves[call.name] = call.run(call.weight).detach().requires_grad_()
        return leaves[call.name].clone()

    y = unit_map(layer_output(model, image, target.layer, watch), target.unit)
    gradients = {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    _add(gradients, leaves, response(y, target.response))
    scores: Scores = {}
    for name in reversed(calls):
        call, gradient, output = calls[name], gradients[name][0], leaves[name].detach()[0]
        out_channels, columns = call.weight.shape[:2]
        scores[name] = np.zeros((out_channels, columns))
        read = torch.zeros(call.inputs.shape[1], dtype=torch.float64)
        for out in range(out_channels):
            relevance = float((output[out] * gradient[out]).abs().sum())
            local = [
                float((call.kernel_map(out, column).detach() * gradient[out]).abs().mean())
                for column in range(columns)
            ]
            for column in range(columns):
                if sum(local) > 0:
                    scores[name][out, column] = relevance * local[column] / sum(local)
                read[call.input_channel(out, column)] += scores[name][out, column]
        sizes = call.inputs[0].abs().sum((1, 2))
        alive = (sizes > 0) & (read > 0)
        if call.inputs.requires_grad and alive.any():
            _add(gradients, leaves, (read[alive] * sizes[alive].log()).sum())
    return scores


def _add(gradients: dict[str, Tensor], leaves: dict[str, Tensor], total: Tensor) -> None:
    if not total.requires_grad:
        return
    found = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, retain_graph=True)
    for name, gradient in zip(leaves, found, strict=True):
        if gradient is not None:
            gradients[name] = gradients[name] + gradient
