"""A circuit as weights: every kernel outside it pruned."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.convolution import ConvWeights


def pruned_weights(
    layer: TracedLayer, number: int, mask: NDArray[np.bool_], means: KernelMeans | None
) -> dict[str, ConvWeights]:
    """Gives the weights and biases of the circuit, by the name of the step that they replace.

    Args:
        layer: the layer.
        number: the unit.
        mask: (kernels,) bool, the kernels to keep.
        means: None sets pruned kernels to zero; otherwise each leaves its mean contribution, a
            constant, in the bias. Biases stay.
    """
    replaced = {}
    padded = np.append(mask, False)
    for name, positions in kernel_positions(layer, number).items():
        step = layer.network.by_name[name]
        site = layer.network.sites[step.convolution or 0]
        kernels = padded[positions]
        on_device = torch.from_numpy(kernels).to(site.weight.device)
        weight = site.weight * on_device[:, :, None, None]
        bias = _bias(step.args[2:3], name, on_device, means)
        replaced[name] = ConvWeights(weight, bias, kernels)
    return replaced


def kernel_positions(layer: TracedLayer, number: int) -> dict[str, NDArray[np.int64]]:
    """Finds each kernel of the unit's convolutions on the axis.

    Returns:
        For each step that applies a convolution of the axis (out, in / groups) int64, by its name;
        one past the end of the axis for a kernel of a row that is another unit's.
    """
    unit_rows = iter(layer.upstream.rows[number])
    size = layer.upstream.index.size
    found = {}
    for piece, convolution, site in layer.pieces():
        positions = np.arange(piece.start, piece.stop)
        positions = positions.reshape(convolution.rows, convolution.in_channels)
        if convolution.one_row:
            (row,) = positions
            positions = np.full(site.weight.shape[:2], size)
            positions[next(unit_rows)] = row
        found.update(dict.fromkeys(site.steps, positions))
    return found


def _bias(
    stored: tuple[Tensor | None, ...], name: str, mask: Tensor, means: KernelMeans | None
) -> Tensor | None:
    bias = stored[0] if stored else None
    if means is None:
        return bias
    shift = (means.by_step[name] * ~mask).sum(1)
    return shift if bias is None else bias + shift
