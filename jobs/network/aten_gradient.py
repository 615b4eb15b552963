"""The gradient of any ATen operation by its inputs, through torch's autograd."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from circuit_atlas.jobs.network.graph import Network, Step


def aten_gradient(
    network: Network, step: Step, values: Mapping[str, Tensor], output_gradients: Tensor
) -> list[tuple[str, Tensor]]:
    """Takes N gradients back through one step, all at once.

    It is right for every operation that treats the images of a batch alike.

    Args:
        network: the traced network that the step is of.
        step: the operation.
        values: at least the step's inputs, each (1, ...) or (N, ...).
        output_gradients: (N, ...), by the step's result.

    Returns:
        The name of each input that the result depends on, with N gradients by it, (N, ...).
    """
    count = len(output_gradients)
    with torch.enable_grad():
        expanded = {
            name: values[name].detach().expand(count, *values[name].shape[1:]).requires_grad_()
            for name in step.inputs
        }
        result = step.run({**values, **network.sizes.at(count, network.image), **expanded})
        gradients = torch.autograd.grad(
            result, list(expanded.values()), output_gradients, allow_unused=True
        )
    return [
        (name, gradient)
        for name, gradient in zip(expanded, gradients, strict=True)
        if gradient is not None
    ]
