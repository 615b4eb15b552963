"""The first convolution of every circuit, computed once for all of them.

A channel of the first convolution reads a kernel a channel of the image: three where it has
colours, so that pruning can make eight channels of it and no more. All are computed for a batch of
images, with what follows channel by channel (batch norm, ReLU, pooling), and each circuit picks
from them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.engine.forward import pool_options
from circuit_atlas.jobs.network.aten import BATCH_NORM, UNARY
from circuit_atlas.jobs.network.convolution import ConvWeights, channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import is_channelwise

# 2^4 patterns a channel: more inputs would cost more than they save.
_MOST_INPUTS = 4
_FOLLOWS = UNARY | {BATCH_NORM, "max_pool2d", "avg_pool2d", "clone", "dropout"}


@dataclass(frozen=True)
class FirstConvolution:
    """Every channel that pruning can make of the first convolution, for a batch of images.

    Attributes:
        convolution: the step that applies it.
        last: the step up to which results are in the table; its result is read channel by channel.
        weight: the convolution's, in the whole network.
        table: (images, patterns * channels, height, width), results of `last`.
        argmax: of the same shape, the flat input position of each maximum that `last`, a max-pool,
            took; None where that is not asked for.
        rows: the images' rows in both: some images are picked without a copy.
    """

    convolution: Step
    last: Step
    weight: Tensor
    table: Tensor
    argmax: Tensor | None
    rows: Sequence[int]

    @classmethod
    def of(
        cls,
        network: Network,
        images: Tensor,
        means: Mapping[str, Tensor] | None,
        *,
        argmax: bool = False,
    ) -> FirstConvolution | None:
        """Computes the first convolution of a network; None where it has no single one.

        Args:
            network: the traced network.
            images: (images, channels, height, width).
            means: each kernel's mean contribution (out, in) by step, for mean ablation.
            argmax: keep the positions of maxima; None is returned too where anything but batch norm
                and a ReLU stands between the convolution and a max-pool. Default: keep none.
        """
        chain = _chain(network)
        if chain is None or (argmax and not _ends_in_maxima(chain)):
            return None
        first = chain[0]
        weight = network.sites[first.convolution or 0].weight
        out, inputs = weight.shape[:2]
        patterns = 2**inputs
        shape = (len(images), patterns * out, *chain[-1].shape[1:])
        table = images.new_empty(shape)
        positions = images.new_empty(shape, dtype=torch.int64) if argmax else None
        bias = first.args[2] if len(first.args) > 2 else None
        # A pattern and an image at a time, so that the maps stay in the processor's cache.
        for pattern in range(patterns):
            mask = torch.tensor([bool(pattern >> n & 1) for n in range(inputs)])
            mask = mask.to(weight.device)
            shifted = bias
            if means is not None:
                shift = (means[first.name] * ~mask).sum(1)
                shifted = shift if bias is None else bias + shift
            kernels = ConvWeights(weight * mask[:, None, None], shifted)
            channels = slice(pattern * out, (pattern + 1) * out)
            for n in range(len(images)):
                value = first.run({first.inputs[0]: channels_last(images[n : n + 1])}, kernels)
                value, indices = _follow(chain[1:], value, argmax=argmax)
                table[n, channels] = value[0]
                if positions is not None and indices is not None:
                    positions[n, channels] = indices[0]
        return cls(first, chain[-1], weight, table, positions, range(len(images)))

    def part(self, images: slice | list[int]) -> FirstConvolution:
        """Gives the same for some of the images."""
        part = self.rows[images] if isinstance(images, slice) else [self.rows[n] for n in images]
        return replace(self, rows=part)

    def channels(self, kernels: ConvWeights | None, live: NDArray[np.bool_]) -> Tensor:
        """Picks the live channels of `last` in a circuit: (images, channels, height, width).

        Where the mask is (images, out, in) and `live` (images, out), each image's are those in a
        circuit of its own, and they lie in memory as `side_by_side` has them.
        """
        index = self._index(kernels, live)
        images, channels = len(self.rows), index.shape[-1]
        shape = (images, channels) if index.dim() == 1 else (1, images * channels)
        found = torch.empty(
            (*shape, *self.table.shape[2:]),
            dtype=self.table.dtype,
            device=self.table.device,
            memory_format=torch.channels_last,
        )
        if index.dim() > 1:
            found = found[0].unflatten(0, (images, channels))
        # An image at a time goes through the processor's cache, at half of the time.
        for into, row, own in zip(found, self.rows, index.expand(images, -1), strict=True):
            into.copy_(self.table[row].index_select(0, own))
        return found

    def argmax_in(self, kernels: ConvWeights) -> Tensor:
        """Picks the positions of the max-pool's maxima in a circuit: (images, channels,
        windows)."""
        if self.argmax is None:
            raise ValueError("the first convolution was opened without argmax")
        live = np.ones(len(self.weight), dtype=np.bool_)
        index = self._index(kernels, live)
        return torch.stack([self.argmax[row].index_select(0, index) for row in self.rows]).flatten(
            2
        )

    def _index(self, kernels: ConvWeights | None, live: NDArray[np.bool_]) -> Tensor:
        """(channels,) int64 among the table's, or (images, channels)."""
        out, inputs = self.weight.shape[:2]
        mask = None if kernels is None else kernels.mask
        if mask is None:
            mask = np.ones((out, inputs), dtype=np.bool_)
        pattern = (mask * 2 ** np.arange(inputs)).sum(-1)
        index = np.broadcast_to(pattern * out + np.arange(out), live.shape)[live]
        return torch.from_numpy(index.reshape(*live.shape[:-1], -1)).to(self.table.device)


def first_convolution_size(network: Network) -> int:
    """Counts the numbers in `FirstConvolution.table` for one image, 0 where there is no table."""
    chain = _chain(network)
    if chain is None:
        return 0
    inputs = network.sites[chain[0].convolution or 0].weight.shape[1]
    return int(2**inputs * prod(chain[-1].shape))


def _follow(
    steps: tuple[Step, ...], value: Tensor, *, argmax: bool
) -> tuple[Tensor, Tensor | None]:
    """The result of the steps, and the positions of the last one's maxima where asked for."""
    indices = None
    # A ReLU and the max-pool after it can change places, and the ReLU has less to do then.
    swapped = len(steps) > 1 and (steps[-2].op, steps[-1].op) == ("relu", "max_pool2d")
    for step in (*steps[:-2], steps[-1], steps[-2]) if swapped else steps:
        if argmax and step.op == "max_pool2d":
            value, indices = functional.max_pool2d(value, *pool_options(step), return_indices=True)
        elif step.op == BATCH_NORM:
            value = step.call(value, *step.args[1:])[0]
        elif step.op == "relu":
            value = torch.relu_(value)
        else:
            value = step.run({step.inputs[0]: value})
    return value, indices


def _ends_in_maxima(chain: tuple[Step, ...]) -> bool:
    """Whether the chain is a convolution, batch norm perhaps, a ReLU and a max-pool."""
    names = [step.op for step in chain[1:]]
    return names[-2:] == ["relu", "max_pool2d"] and set(names[:-2]) <= {BATCH_NORM}


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
        if len(readers) != 1 or chain[-1] is network.target:
            return tuple(chain)
        (reader,) = readers
        follows = reader.op in _FOLLOWS and is_channelwise(network, reader)
        if not follows or len(reader.inputs) != 1:
            return tuple(chain)
        chain.append(reader)
