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
    unit_rows = iter(layer.upstream.rows[number])
    replaced = {}
    for piece, convolution, site in layer.pieces():
        kernels = mask[piece].reshape(convolution.rows, convolution.in_channels)
        if convolution.one_row:
            (row,) = kernels
            kernels = np.zeros(site.weight.shape[:2], dtype=np.bool_)
            kernels[next(unit_rows)] = row
        on_device = torch.from_numpy(kernels).to(site.weight.device)
        weight = site.weight * on_device[:, :, None, None]
        for name in site.steps:
            bias = layer.network.by_name[name].args[2:3]
            replaced[name] = ConvWeights(weight, _bias(bias, name, on_device, means), kernels)
    return replaced


def _bias(
    stored: tuple[Tensor | None, ...], name: str, mask: Tensor, means: KernelMeans | None
) -> Tensor | None:
    bias = stored[0] if stored else None
    if means is None:
        return bias
    shift = (means.by_step[name] * ~mask).sum(1)
    return shift if bias is None else bias + shift
