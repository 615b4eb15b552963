"""The least that work can take: its multiply-adds, and how fast this machine multiplies."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.live_channels import live_channels
from circuit_atlas.jobs.circuits.pruned_weights import kernel_positions
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.convolution import (
    ConvGeometry,
    ConvWeights,
    channels_last,
    convolve,
)
from circuit_atlas.jobs.network.layer_network import Network
from tests.benchmarks.measured import best_s

_SIDE = 1536
_TRIES = 8


def backward_multiplications(network: Network) -> int:
    """Multiply-adds of the backward pass of one unit over one image, to the output of every
    convolution: each convolution but the first once more, of the target's one row of kernels."""
    total = 0
    for step in network.steps:
        if step.convolution is not None and network.image not in step.inputs:
            site = network.sites[step.convolution]
            kernels = site.weight.numel()
            if step is network.target:
                kernels //= len(site.weight)
            total += kernels * step.shape[1] * step.shape[2]
    return total


def masked_multiplications(network: Network) -> int:
    """Multiply-adds of one step of FORCE over one image: forward and backward of all but the first
    convolution, and the gradients of all weights."""
    weights = sum(
        network.sites[step.convolution].weight.numel() * step.shape[1] * step.shape[2]
        for step in network.steps
        if step.convolution is not None and step is not network.target
    )
    return 2 * backward_multiplications(network) + weights


def circuit_multiplications(layer: TracedLayer, unit: int, mask: NDArray[np.bool_]) -> int:
    """Multiply-adds of a circuit over one image, of the channels that it reads and without the
    first convolution, which circuits share."""
    network = layer.network
    padded = np.append(mask, False)
    masks = {name: padded[at] for name, at in kernel_positions(layer, unit).items()}
    live = live_channels(network, masks, layer.reads(unit))
    total = 0
    for step in network.steps:
        if step.convolution is not None and network.image not in step.inputs and step.name in live:
            _, _, height, width = network.sites[step.convolution].weight.shape
            kernels = int(live[step.name].sum()) * int(live[step.inputs[0]].sum())
            total += kernels * height * width * step.shape[1] * step.shape[2]
    return total


def multiplications_a_second() -> float:
    """Of a large float32 matrix product, with as many threads as torch uses."""
    left, right = torch.randn(2, _SIDE, _SIDE)
    return _SIDE**3 / best_s(lambda: left @ right, times=_TRIES)


def convolution_multiplications_a_second() -> float:
    """Of the same product as a 1 x 1 convolution. torch multiplies matrices by MKL, which does not
    use all of some processors, and convolves by oneDNN, which does."""
    left, right = torch.randn(2, _SIDE, _SIDE)
    maps = channels_last(left.t().reshape(1, _SIDE, _SIDE // 32, 32))
    kernels = ConvWeights(right[:, :, None, None], None)
    geometry = ConvGeometry((1, 1), (0, 0), (1, 1), 1)
    return _SIDE**3 / best_s(lambda: convolve(maps, kernels, geometry), times=_TRIES)
