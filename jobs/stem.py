"""The first convolution of every circuit, computed once for all of them.

A channel of the first convolution reads three kernels, so pruning can make eight channels of it
and no more. All are computed for a batch of images, with what follows channel by channel (batch
norm, ReLU, pooling), and each circuit picks its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.graph import Kernels, Network, Step, channels_last
from circuit_atlas.jobs.operations import BATCH_NORM, UNARY

# 2^4 patterns a channel: more inputs would cost more than they save.
_MOST_INPUTS = 4
_FOLLOWS = UNARY | {BATCH_NORM, "max_pool2d", "avg_pool2d", "clone", "dropout"}


class Stem:
    """Every channel that pruning can make of the first convolution, for a batch of images.

    Attributes:
        convolution: the step that applies it.
        last: the step up to which results are kept; its result is read channel by channel.
    """

    def __init__(self, convolution: Step, last: Step, table: Tensor, weight: Tensor) -> None:
        self.convolution = convolution
        self.last = last
        self._table = table
        self._weight = weight

    @classmethod
    def of(
        cls, network: Network, images: Tensor, means: Mapping[str, Tensor] | None
    ) -> Stem | None:
        """The stem of a network, or None where it has no such first convolution.

        Args:
            network: the traced network.
            images: (images, 3, height, width).
            means: each kernel's mean contribution (out, in) by step, for mean ablation.
        """
        chain = _chain(network)
        if chain is None:
            return None
        first = chain[0]
        site = network.sites[first.convolution or 0]
        inputs = site.weight.shape[1]
        patterns = 2**inputs
        kept = torch.tensor([[p >> i & 1 for i in range(inputs)] for p in range(patterns)])
        kept = kept.to(site.weight.device, torch.bool)[:, None, :]
        weight = (site.weight[None] * kept[..., None, None]).flatten(0, 1)
        own = first.args[2] if len(first.args) > 2 else None
        bias = None if own is None else own.repeat(patterns)
        if means is not None:
            shift = (means[first.name][None] * ~kept).sum(2).flatten()
            bias = shift if bias is None else bias + shift
        value = first.run({first.inputs[0]: channels_last(images)}, Kernels(weight, bias))
        for step in chain[1:]:
            if step.op == BATCH_NORM:
                args = [a.repeat(patterns) if isinstance(a, Tensor) else a for a in step.args[1:]]
                value = step.call(value, *args)[0]
            else:
                value = step.run({step.inputs[0]: value})
        return cls(first, chain[-1], value.contiguous(), site.weight)

    def part(self, images: slice | list[int]) -> Stem:
        """The same for some of the images."""
        return Stem(self.convolution, self.last, self._table[images], self._weight)

    def channels(self, kernels: Kernels | None, live: NDArray[np.bool_]) -> Tensor:
        """The live channels of `last` in a circuit: (images, live channels, height, width)."""
        weight = self._weight if kernels is None else kernels.weight
        kept = weight.ne(0).any(-1).any(-1).long()
        # A kernel that is zero in the whole model is the same kept or pruned.
        bits = 2 ** torch.arange(kept.shape[1], device=kept.device)
        pattern = (kept * bits).sum(1)
        channel = torch.arange(len(pattern), device=kept.device)
        index = (pattern * len(pattern) + channel)[torch.from_numpy(live).to(kept.device)]
        return channels_last(self._table[:, index])


def _chain(network: Network) -> tuple[Step, ...] | None:
    """The only step that reads the image, if it is a convolution of few inputs, and the steps after
    it that treat its channels one by one."""
    first = [step for step in network.steps if network.image in step.inputs]
    if len(first) != 1 or first[0].convolution is None:
        return None
    site = network.sites[first[0].convolution]
    if site.groups != 1 or site.weight.shape[1] > _MOST_INPUTS or len(site.steps) != 1:
        return None
    chain = [first[0]]
    while True:
        readers = [step for step in network.steps if chain[-1].name in step.inputs]
        if len(readers) != 1 or readers[0].op not in _FOLLOWS or chain[-1] is network.target:
            return tuple(chain)
        chain.append(readers[0])
