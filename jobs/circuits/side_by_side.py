"""Images side by side as channels, so that each can go through a circuit of its own.

All channels of one image stand before those of the next, as one image of many channels, and a
convolution of all circuits is one with a group a circuit. That is as fast as one circuit on as many
images: on a processor, half of the time that small circuits take one by one goes to the calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.live_channels import follows_channels, grouping
from circuit_atlas.jobs.network.aten import BATCH_NORM, UNARY
from circuit_atlas.jobs.network.convolution import ConvWeights
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import has_constant_tensors, once

# No argument of them says how many channels or images there are.
_ANY_NUMBER = UNARY | {"add", "sub", "mul", "div", "max_pool2d", "avg_pool2d", "clone", "dropout"}


def can_stand_side_by_side(network: Network) -> bool:
    """Says whether every step of a network can run on images side by side."""
    return all(_can(network, step) for step in network.steps)


def side_by_side(images: Tensor) -> Tensor:
    """Takes (images, channels, height, width) to (1, images * channels, height, width)."""
    # Through rows and columns: a first axis of one that is put in before them has strides by which
    # torch does not know the order of memory again.
    return images.flatten(0, 1).permute(1, 2, 0).contiguous()[None].permute(0, 3, 1, 2)


def picked(value: Tensor, index: Tensor | None, images: int) -> Tensor:
    """Picks channels of a value: those of an index (n,), of each of so many images that stand side
    by side, or an image's own of an index (images, n). Default: all."""
    if index is None:
        return value
    if images > 1 or index.dim() > 1:
        starts = torch.arange(images, device=index.device) * (value.shape[1] // images)
        index = (starts[:, None] + index).flatten()
    return value[:, index]


def concatenated(parts: Sequence[Tensor], images: int) -> Tensor:
    """Puts the channels of values side by side, those of each image together."""
    if images == 1:
        return torch.cat(list(parts), 1)
    apart = [part.permute(0, 2, 3, 1).unflatten(3, (images, -1)) for part in parts]
    return torch.cat(apart, 4).flatten(3).permute(0, 3, 1, 2)


def of_channels(values: Tensor, channels: Tensor | None, images: int) -> Tensor:
    """Repeats values of channels (channels,) for each image, of the channels of an index alone."""
    values = values if channels is None else values[channels]
    return values.flatten() if values.dim() > 1 else values.repeat(images)


def of_circuits(kernels: ConvWeights, images: int) -> ConvWeights:
    """Puts weights (images, out, in, height, width) side by side, or the same for all images."""
    weight, bias = kernels.weight, kernels.bias
    if weight.dim() > 4:
        return ConvWeights(weight.flatten(0, 1), None if bias is None else bias.flatten())
    if images == 1:
        return kernels
    bias = None if bias is None else bias.repeat(images)
    return ConvWeights(weight.repeat(images, 1, 1, 1), bias)


@once
def _can(network: Network, step: Step) -> bool:
    if not follows_channels(network, step):
        return False
    if step.convolution is not None:
        return grouping(network, step) != "grouped"
    if step.op not in _ANY_NUMBER:
        return step.op in {"cat", BATCH_NORM}
    alike = all(network.shape(name)[0] == step.shape[0] for name in step.inputs)
    return alike and not has_constant_tensors(step)
