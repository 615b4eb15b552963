"""The gradient of any ATen operation by its inputs, through torch's autograd."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from circuit_atlas.jobs.network.convolution import channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step

# Whose backward pass is right for channels-last gradients, and faster there. That of others may not
# be: of instance_norm it gives other numbers (torch 2.14.1).
_CHANNELS_LAST = frozenset(
    """
    avg_pool2d adaptive_avg_pool2d constant_pad_nd pad upsample_nearest2d upsample_bilinear2d
    """.split()
)


def aten_gradient(
    network: Network, step: Step, values: Mapping[str, Tensor], output_gradients: Tensor
) -> list[tuple[str, Tensor]]:
    """Takes N gradients back through one step, all at once.

    It is right for every operation that treats the images of a batch alike, whatever the layout of
    values and gradients in memory. Where an image is folded into the batch (`Step.folded`), one
    gradient goes back at a time, over the values of a single image.

    Args:
        network: the traced network that the step is of.
        step: the operation.
        values: at least the step's inputs, each (1, ...) or (N, ...).
        output_gradients: (N, ...), by the step's result; (N, rows, ...) where that is folded.

    Returns:
        The name of each input that the result depends on, with N gradients by it, (N, ...), or
        (N, rows, ...) where it is folded.
    """
    if step.folded or any(network.is_folded(name) for name in step.inputs):
        return _one_by_one(network, step, values, output_gradients)
    count = len(output_gradients)
    with torch.enable_grad():
        laid_out = {name: _laid_out(step, values[name].detach()) for name in step.inputs}
        expanded = {name: value.expand(count, *value.shape[1:]) for name, value in laid_out.items()}
        leaves = _leaves(expanded)
        result = step.run({**values, **network.sizes.at(count, network.image), **expanded})
        if not result.requires_grad:
            return []
        gradients = torch.autograd.grad(
            result, list(leaves.values()), _laid_out(step, output_gradients), allow_unused=True
        )
    return [
        (name, gradient)
        for name, gradient in zip(leaves, gradients, strict=True)
        if gradient is not None
    ]


def _one_by_one(
    network: Network, step: Step, values: Mapping[str, Tensor], output_gradients: Tensor
) -> list[tuple[str, Tensor]]:
    with torch.enable_grad():
        inputs = {name: values[name].detach().contiguous() for name in step.inputs}
        leaves = _leaves(inputs)
        result = step.run({**values, **network.sizes.at(1, network.image), **inputs})
        if not result.requires_grad:
            return []
        rows = [
            torch.autograd.grad(
                result,
                list(leaves.values()),
                gradient.reshape(result.shape),
                retain_graph=True,
                allow_unused=True,
            )
            for gradient in output_gradients
        ]
    gradients: list[tuple[str, Tensor]] = []
    for name, column in zip(leaves, zip(*rows, strict=True), strict=True):
        reached = [gradient for gradient in column if gradient is not None]
        if reached:
            stacked = torch.stack(reached)
            gradients.append((name, stacked if network.is_folded(name) else stacked[:, 0]))
    return gradients


def _leaves(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The values that a gradient can be taken by, marked so: none of integers or truth values."""
    return {
        name: value.requires_grad_()
        for name, value in values.items()
        if value.is_floating_point() or value.is_complex()
    }


def _laid_out(step: Step, values: Tensor) -> Tensor:
    """Values in the memory layout in which the step's backward pass is right."""
    maps = values.dim() == 4 and step.op in _CHANNELS_LAST
    return channels_last(values) if maps else values.contiguous()
