"""Running a circuit: the network with every other kernel pruned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import Stem
from circuit_atlas.jobs.circuits.live_channels import compact_output
from circuit_atlas.jobs.engine.forward import unfold_input
from circuit_atlas.jobs.engine.targets import Targets
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.convolution import ConvWeights


@dataclass(frozen=True)
class KernelMeans:
    """What each kernel adds to its output channel on average, over the scoring images and all
    positions.

    Attributes:
        by_step: for each step that applies a convolution, (out, in / groups).
    """

    by_step: dict[str, Tensor]


def kernel_means(layer: TracedLayer, batches: Iterable[Tensor]) -> KernelMeans:
    """The mean contribution of every kernel, for pruning with `ablation = "mean"`."""
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
    means = {}
    for name, summed in total.items():
        site = network.sites[network.by_name[name].convolution or 0]
        by_weight = site.weight.flatten(2).unflatten(0, (site.groups, -1)).double()
        mean = torch.einsum("goik,gik->goi", by_weight, summed / max(count, 1))
        means[name] = mean.flatten(0, 1).to(site.weight.dtype)
    return KernelMeans(means)


def pruned(
    layer: TracedLayer, number: int, mask: NDArray[np.bool_], means: KernelMeans | None
) -> dict[str, ConvWeights]:
    """Weights and biases of the circuit, by the name of the step.

    Args:
        layer: the layer.
        number: the unit.
        mask: (kernels,) bool, the kernels kept.
        means: None sets pruned kernels to zero; otherwise each leaves its mean contribution, a
            constant, in the bias. Biases stay.
    """
    own_rows = iter(layer.upstream.rows[number])
    replaced = {}
    for piece, convolution, site in layer.pieces():
        kept = mask[piece].reshape(convolution.rows, convolution.in_channels)
        if convolution.one_row:
            row = kept
            kept = np.zeros(site.weight.shape[:2], dtype=np.bool_)
            kept[next(own_rows)] = row[0]
        on_device = torch.from_numpy(kept).to(site.weight.device)
        weight = site.weight * on_device[:, :, None, None]
        for name in site.steps:
            bias = layer.network.by_name[name].args[2:3]
            replaced[name] = ConvWeights(weight, _bias(bias, name, on_device, means), kept)
    return replaced


def open_stem(layer: TracedLayer, images: Tensor, means: KernelMeans | None) -> Stem | None:
    """What all circuits of the layer share on these images, where the network allows it."""
    with torch.no_grad():
        return Stem.of(layer.network, images, None if means is None else means.by_step)


def circuit_maps(
    layer: TracedLayer,
    number: int,
    masks: NDArray[np.bool_],
    images: Tensor,
    *,
    means: KernelMeans | None = None,
    stem: Stem | None = None,
) -> Tensor:
    """The unit's map in each of several circuits.

    Args:
        layer: the layer.
        number: the unit.
        masks: (circuits, kernels) bool.
        images: (images, 3, height, width).
        means: as in `pruned`.
        stem: `open_stem` of the same images and means; without it the same maps take longer.

    Returns:
        (circuits, images, map height, map width).
    """
    targets = layer.targets([number])
    wanted = layer.reads(number)
    directions = targets.directions[:, torch.from_numpy(wanted).to(images.device)]
    with torch.no_grad():
        maps = [
            Targets(None, directions).maps(
                compact_output(
                    layer.network, pruned(layer, number, mask, means), wanted, images, stem
                )
            )[0]
            for mask in masks
        ]
    shape = (0, len(images), layer.index.height, layer.index.width)
    return torch.stack(maps) if maps else images.new_empty(shape)


def _bias(
    own: tuple[Tensor | None, ...], name: str, kept: Tensor, means: KernelMeans | None
) -> Tensor | None:
    bias = own[0] if own else None
    if means is None:
        return bias
    shift = (means.by_step[name] * ~kept).sum(1)
    return shift if bias is None else bias + shift
