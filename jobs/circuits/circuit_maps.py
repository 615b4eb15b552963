"""A unit's maps in its circuits: the network run with every other kernel pruned."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.compact_circuit import CompactCircuit
from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.circuits.side_by_side import can_stand_side_by_side
from circuit_atlas.jobs.engine.traced_layer import TracedLayer


def open_first_convolution(
    layer: TracedLayer, images: Tensor, means: KernelMeans | None
) -> FirstConvolution | None:
    """Computes what all circuits of the layer share on these images; None where the network shares
    nothing."""
    with torch.no_grad():
        by_step = None if means is None else means.by_step
        return FirstConvolution.of(layer.network, images, by_step)


def circuit_maps(
    layer: TracedLayer,
    number: int,
    masks: NDArray[np.bool_],
    images: Tensor,
    *,
    means: KernelMeans | None = None,
    first: FirstConvolution | None = None,
) -> Tensor:
    """Computes the unit's map in each of several circuits.

    Args:
        layer: the layer.
        number: the unit.
        masks: (circuits, kernels) bool; or (circuits, images, kernels), where each image goes
            through circuits of its own.
        images: (images, channels, height, width).
        means: every kernel's mean contribution. Default: pruned kernels are zero.
        first: `open_first_convolution` of the same images and means. Default: none, and the same
            maps take longer.

    Returns:
        (circuits, images, map height, map width).
    """
    with torch.no_grad():
        maps = [_of_circuit(layer, number, mask, images, means, first) for mask in masks]
    shape = (0, len(images), layer.index.height, layer.index.width)
    return torch.stack(maps) if maps else images.new_empty(shape)


def _of_circuit(
    layer: TracedLayer,
    number: int,
    mask: NDArray[np.bool_],
    images: Tensor,
    means: KernelMeans | None,
    first: FirstConvolution | None,
) -> Tensor:
    """The maps in one circuit, or in one for each image."""
    if mask.ndim == 1 or can_stand_side_by_side(layer.network):
        return CompactCircuit(layer, number, mask, means).maps(images, first=first)
    each = []
    for n, own in enumerate(mask):
        circuit = CompactCircuit(layer, number, own, means)
        part = None if first is None else first.part(slice(n, n + 1))
        each.append(circuit.maps(images[n : n + 1], first=part))
    return torch.cat(each)
