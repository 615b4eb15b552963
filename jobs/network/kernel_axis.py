"""The kernels that can reach a unit, read off the graph, channel by channel.

A channel reaches the unit if it lies on a path of the graph to it: through a convolution's groups,
concatenations, sums, gates and shuffles. Parameters' values play no part, so a kernel of zeros
counts as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.network.aten import CHANNELWISE, MOVES, POINTWISE
from circuit_atlas.jobs.network.aten_gradient import aten_gradient
from circuit_atlas.jobs.network.graph import Network, Step
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex

# Units at a time: a shuffle marks whole maps.
_CHUNK = 64


@dataclass(frozen=True)
class Upstream:
    """The kernel axis of a set of units, and what of it reaches each unit.

    Attributes:
        index: the axis.
        ordinals: for each convolution of the axis, its ordinal among the network's sites.
        rows: for each unit, the one row that reaches it in each one-row convolution.
        reading: for each unit, the number of the set of channels that it reads.
        reachable: (sets, convolutions, largest number of output channels) bool: thousands of
            directions read all channels, and so are reached by the same.
    """

    index: KernelIndex
    ordinals: tuple[int, ...]
    rows: tuple[tuple[int, ...], ...]
    reading: NDArray[np.intp]
    reachable: NDArray[np.bool_]

    def mask(self, unit: int) -> NDArray[np.bool_]:
        """Marks the positions of the axis that can reach unit number `unit`: (kernels,) bool."""
        rows = iter(self.rows[unit])
        parts = []
        for ordinal, convolution in enumerate(self.index.convolutions):
            reached = self.reachable[self.reading[unit], ordinal, : convolution.out_channels]
            if convolution.one_row:
                reached = reached[[next(rows)]]
            parts.append(np.repeat(reached, convolution.in_channels))
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)


def upstream(network: Network, channels: Sequence[NDArray[np.bool_]]) -> Upstream:
    """Finds the kernels that can reach each unit of a layer.

    Args:
        network: the traced network, cut at the layer.
        channels: for each unit, which channels of the layer it reads: (channels,) bool.
    """
    sets, reading = np.unique(np.stack(channels), axis=0, return_inverse=True)
    read = torch.from_numpy(sets)
    pieces = [_reached_rows(network, piece) for piece in read.split(_CHUNK)]
    rows_of_site = [torch.cat(parts).numpy() for parts in zip(*pieces, strict=True)]
    on_axis = [n for n, reached in enumerate(rows_of_site) if reached.any()]
    convolutions = tuple(
        Convolution(
            name=(site := network.sites[n]).name,
            weight=site.parameter,
            out_channels=int(site.weight.shape[0]),
            in_channels=int(site.weight.shape[1]),
            groups=site.groups,
            kernel_size=(int(site.weight.shape[2]), int(site.weight.shape[3])),
            depth=site.depth,
            one_row=bool((rows_of_site[n].sum(axis=1) <= 1).all()),
        )
        for n in on_axis
    )
    reachable = np.zeros(
        (len(read), len(on_axis), max((c.out_channels for c in convolutions), default=0)),
        dtype=np.bool_,
    )
    for ordinal, n in enumerate(on_axis):
        reachable[:, ordinal, : rows_of_site[n].shape[1]] = rows_of_site[n]
    one_row = [n for n, convolution in enumerate(convolutions) if convolution.one_row]
    rows_of_set = [tuple(int(reached[n].argmax()) for n in one_row) for reached in reachable]
    reading = reading.reshape(-1)
    rows = tuple(rows_of_set[n] for n in reading)
    return Upstream(KernelIndex(convolutions), tuple(on_axis), rows, reading, reachable)


def _reached_rows(network: Network, channels: Tensor) -> list[Tensor]:
    """For each site, (units, output channels) bool: which rows can reach each unit."""
    units = len(channels)
    rows = [torch.zeros((units, len(site.weight)), dtype=torch.bool) for site in network.sites]
    reached = {network.base: channels[:, :, None, None]}
    for step in reversed(network.steps):
        mark = reached.pop(step.name, None)
        if mark is None:
            continue
        if step.convolution is not None:
            rows[step.convolution] |= mark.flatten(2).any(2)
        for name, before in _push(network, step, mark):
            reached[name] = reached[name] | before if name in reached else before
    return rows


def _push(network: Network, step: Step, mark: Tensor) -> list[tuple[str, Tensor]]:
    """Marks of a step's inputs. A map's mark is (units, channels, 1, 1), another tensor's has the
    tensor's own shape after the units axis."""
    units = len(mark)
    if not step.inputs:  # a constant, as large as the batch
        return []
    if step.convolution is not None:
        groups = network.sites[step.convolution].groups
        channels = network.shape(step.inputs[0])[0]
        by_group = mark.reshape(units, groups, -1).any(2)
        before = by_group.repeat_interleave(channels // groups, 1)
        return [(step.inputs[0], before[:, :, None, None])]
    maps = all(len(network.shape(name)) == 3 for name in (*step.inputs, step.name))
    if maps and step.op == "cat" and step.args[1:] == (1,):
        names = [part.name for part in step.args[0]]
        pieces = mark.split([network.shape(name)[0] for name in names], 1)
        return list(zip(names, pieces, strict=True))
    if step.op in POINTWISE and all(network.shape(name) == step.shape for name in step.inputs):
        return [(name, mark) for name in step.inputs]
    if maps and step.op in CHANNELWISE:
        pushed = []
        for name in step.inputs:
            channels = network.shape(name)[0]
            spread = mark if mark.shape[1] == channels else mark.any(1, keepdim=True)
            pushed.append((name, spread.expand(-1, channels, -1, -1)))
        return pushed
    if step.op in MOVES:
        full = mark.expand(units, *step.shape).float()
        zeros = {name: torch.zeros((1, *network.shape(name))) for name in step.inputs}
        moved = aten_gradient(network, step, zeros, full)
        return [(name, _as_mark(gradient > 0)) for name, gradient in moved]
    anything = mark.flatten(1).any(1)
    return [
        (name, _as_mark(anything.reshape(-1, *[1] * len(shape)).expand(units, *shape)))
        for name in step.inputs
        for shape in (network.shape(name),)
    ]


def _as_mark(full: Tensor) -> Tensor:
    return full.flatten(2).any(2)[:, :, None, None] if full.dim() == 4 else full
