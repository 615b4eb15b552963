"""A unit's circuits inside one set of kernels: the network run on what any of them needs."""

from __future__ import annotations

from dataclasses import dataclass

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
        weight: (rows, columns, height, width), as in the whole network.
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
            kernels: (kernels,) bool, the set.
            means: each kernel's mean contribution, which it leaves in the bias where it is pruned.
                Default: a pruned kernel is zero.
        """
        network = layer.network
        read = layer.reads(number)
        positions = kernel_positions(layer, number)
        # One past the axis: a kernel that is on no path of the unit's, and pruned for good.
        masks = {name: np.append(kernels, False)[at] for name, at in positions.items()}
        self._device = network.sites[-1].weight.device
        self._kernels = torch.from_numpy(kernels).to(self._device)
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
    ) -> Tensor:
        """Computes the unit's map in one of the circuits.

        Args:
            images: (images, channels, height, width).
            kept: (kernels,) on the axis, 1 for a kernel that is kept and 0 for one that is pruned,
                0 outside the set; gradients by it are those of the mask. Default: the whole set.
            first: `open_first_convolution` of the same images and means, for the whole set alone.
                Default: none, and the same map takes longer.

        Returns:
            (images, map height, map width).
        """
        weights = {each.step.name: self._weights(each, kept) for each in self._convolutions}
        output = self._network.output(images, weights, first if kept is None else None)
        return self._target.maps(output)[0]

    def _of(self, step: Step, positions: NDArray[np.int64], means: KernelMeans | None) -> _Kernels:
        site = self._network.network.sites[step.convolution or 0]
        rows = self._network.rows(step)
        on_axis = torch.from_numpy(positions).to(self._device)
        bias = step.args[2] if len(step.args) > 2 else None
        shift = None if means is None else means.by_step[step.name]
        return _Kernels(
            step=step,
            weight=channels_last(self._network.compact(step, site.weight)),
            bias=_rows(bias, rows),
            positions=self._network.compact(step, on_axis),
            every=None if means is None else _rows(on_axis, rows),
            means=_rows(shift, rows),
        )

    def _weights(self, each: _Kernels, kept: Tensor | None) -> ConvWeights:
        mask = self._kernels.to(each.weight.dtype) if kept is None else kept
        # What is not on the axis is pruned.
        mask = torch.cat([mask, mask.new_zeros(1)])
        bias = each.bias
        if each.means is not None and each.every is not None:
            shift = (each.means * (1 - mask[each.every])).sum(1)
            bias = shift if bias is None else bias + shift
        weight = each.weight * mask[each.positions][:, :, None, None]
        return ConvWeights(weight, bias, self._masks[each.step.name])


def _rows(values: Tensor | None, rows: Tensor | None) -> Tensor | None:
    return values if values is None or rows is None else values[rows]
