"""What each kernel adds to its output channel on average, for mean ablation."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.forward import unfold_input
from circuit_atlas.jobs.engine.traced_layer import TracedLayer


@dataclass(frozen=True)
class KernelMeans:
    """The mean contribution of every kernel, over the scoring images and all positions.

    Attributes:
        by_step: for each step that applies a convolution, (out, in / groups).
        inputs: for each of them the mean unfolded input, (groups, in / groups, K, 1) with kernels
            of K weights.
    """

    by_step: dict[str, Tensor]
    inputs: dict[str, Tensor]


def kernel_means(layer: TracedLayer, batches: Iterable[Tensor]) -> KernelMeans:
    """Computes the mean contribution of every kernel.

    Args:
        layer: the layer.
        batches: the scoring images, (batch, channels, height, width) at a time.
    """
    network = layer.network
    total: dict[str, Tensor] = {}
    count = 0
    with torch.no_grad():
        for batch in batches:
            values = network.forward(batch)
            for image in range(len(batch)):
                count += 1
                for step in network.steps:
                    if step.convolution is not None:
                        value = values[step.inputs[0]][image : image + 1]
                        mean = unfold_input(network, step, value).double().mean(-1)
                        total[step.name] = total[step.name] + mean if step.name in total else mean
    means, inputs = {}, {}
    for name, summed in total.items():
        site = network.sites[network.by_name[name].convolution or 0]
        by_weight = site.weight.flatten(2).unflatten(0, (site.groups, -1)).double()
        unfolded = summed / max(count, 1)
        mean = torch.einsum("goik,gik->goi", by_weight, unfolded)
        means[name] = mean.flatten(0, 1).to(site.weight.dtype)
        inputs[name] = unfolded[..., None].to(site.weight.dtype)
    return KernelMeans(means, inputs)
