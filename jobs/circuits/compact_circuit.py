"""A unit's circuits inside one set of kernels: the network run on what any of them needs."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.compact_network import CompactNetwork
from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.circuits.pruned_weights import kernel_positions
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.convolution import ConvWeights, channels_last
from circuit_atlas.jobs.network.step import Step


@dataclass(frozen=True)
class _Kernels:
    """What one convolution of the circuits runs with, all that is computed of it.

    Attributes:
        step: the convolution.
        weight: (rows, columns, height, width), as in the whole network; of a set for each image,
            this and the others have an axis of images where they differ.
        bias: (rows,), or None.
        positions: (rows, columns) int64, where each kernel stands on the axis; one past its end for
            a kernel that is not on it.
        every: the same of all input channels, whose means the bias takes up; None for zero
            ablation.
        means: (rows, input channels) of the same kernels; None for zero ablation.
    """

    step: Step
    weight: Tensor
    bias: Tensor | None
    positions: Tensor
    every: Tensor | None
    means: Tensor | None


class CompactCircuit:
    """All circuits of a unit that lie inside a set of kernels."""

    def __init__(
        self,
        layer: TracedLayer,
        number: int,
        kernels: NDArray[np.bool_],
        means: KernelMeans | None = None,
    ) -> None:
        """Finds what the kernels need.

        Args:
            layer: the layer.
            number: the unit.
            kernels: (kernels,) bool, the set; or (images, kernels), a set for each image of `maps`,
                where the network is one that `can_stand_side_by_side`.
            means: each kernel's mean contribution, which it leaves in the bias where it is pruned.
                Default: a pruned kernel is zero.
        """
        network = layer.network
        read = layer.reads(number)
        positions = kernel_positions(layer, number)
        # One past the axis: a kernel that is on no path of the unit's, and pruned for good.
        padded = np.concatenate([kernels, np.zeros((*kernels.shape[:-1], 1), np.bool_)], -1)
        masks = {name: padded[..., at] for name, at in positions.items()}
        self._device = network.sites[-1].weight.device
        self._kernels = _padded(torch.from_numpy(kernels).to(network.sites[-1].weight))
        self._masks = masks
        self._network = CompactNetwork(network, masks, read)
        self._target = layer.targets([number]).reading(torch.from_numpy(read).to(self._device))
        self._convolutions = tuple(
            self._of(step, positions[step.name], means)
            for step in network.steps
            if step.name in positions and step.name in self._network.live
        )

    def maps(
        self,
        images: Tensor,
        kept: Tensor | None = None,
        first: FirstConvolution | None = None,
        *,
        rectified: bool = True,
    ) -> Tensor:
        """Computes the unit's map in one of the circuits.

        Args:
            images: (images, channels, height, width).
            kept: (kernels,) on the axis, 1 for a kernel that is kept and 0 for one that is pruned,
                0 outside the set; gradients by it are those of the mask. Default: the whole set.
            first: `open_first_convolution` of the same images and means, for the whole set alone.
                Default: none, and the same map takes longer.
            rectified: false for what the map is before the ReLU that makes the layer's output,
                where one does.

        Returns:
            (images, map height, map width).
        """
        mask = self._kernels if kept is None else _padded(kept)
        weights = {each.step.name: _weights(each, mask) for each in self._convolutions}
        if kept is not None:
            first = None
        elif first is not None and first.convolution.name in weights:
            name = first.convolution.name
            weights[name] = replace(weights[name], mask=self._masks[name])
        output = self._network.output(images, weights, first, rectified=rectified)
        return self._target.maps(output)[0]

    def _of(self, step: Step, positions: NDArray[np.int64], means: KernelMeans | None) -> _Kernels:
        site = self._network.network.sites[step.convolution or 0]
        rows = self._network.rows(step)
        on_axis = torch.from_numpy(positions).to(self._device)
        bias = step.args[2] if len(step.args) > 2 else None
        shift = None if means is None else means.by_step[step.name]
        weight = self._network.compact(step, site.weight)
        return _Kernels(
            step=step,
            weight=weight if weight.dim() > 4 else channels_last(weight),
            bias=_rows(bias, rows),
            positions=self._network.compact(step, on_axis),
            every=None if means is None else _rows(on_axis, rows),
            means=_rows(shift, rows),
        )


def _weights(each: _Kernels, mask: Tensor) -> ConvWeights:
    """Prunes the weights by a mask, (kernels + 1,), or by one for each image."""
    bias = each.bias
    if each.means is not None and each.every is not None:
        shift = (each.means * (1 - _taken(mask, each.every))).sum(-1)
        bias = shift if bias is None else bias + shift
    elif bias is not None:
        bias = bias.expand(*mask.shape[:-1], -1)
    return ConvWeights(each.weight * _taken(mask, each.positions)[..., None, None], bias)


def _padded(mask: Tensor) -> Tensor:
    """A mask, with one more for what is not on the axis, which is pruned."""
    return torch.cat([mask, mask.new_zeros((*mask.shape[:-1], 1))], -1)


def _taken(mask: Tensor, positions: Tensor) -> Tensor:
    """What a mask says at positions (rows, columns), or at those of each image."""
    if positions.dim() == 2:
        return mask[..., positions]
    return mask.gather(1, positions.flatten(1)).view(positions.shape)


def _rows(values: Tensor | None, rows: Tensor | None) -> Tensor | None:
    return values if values is None or rows is None else values[rows]
