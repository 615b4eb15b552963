"""The kernels that can reach a unit, read off the graph, channel by channel.

A channel reaches the unit if it lies on a path of the graph to it: through a convolution's groups,
concatenations, sums, gates and shuffles, and whatever else was found to read it (`reads`). Kernels'
values play no part, so a kernel of zeros counts as any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.reads import reads, regions
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import is_concatenation
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex


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
    rows_of_site = _reached_rows(network, sets)
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
        (len(sets), len(on_axis), max((c.out_channels for c in convolutions), default=0)),
        dtype=np.bool_,
    )
    for ordinal, n in enumerate(on_axis):
        reachable[:, ordinal, : rows_of_site[n].shape[1]] = rows_of_site[n]
    one_row = [n for n, convolution in enumerate(convolutions) if convolution.one_row]
    rows_of_set = [tuple(int(reached[n].argmax()) for n in one_row) for reached in reachable]
    reading = reading.reshape(-1)
    rows = tuple(rows_of_set[n] for n in reading)
    return Upstream(KernelIndex(convolutions), tuple(on_axis), rows, reading, reachable)


def _reached_rows(network: Network, channels: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
    """For each site, (units, output channels): which rows can reach each unit."""
    units = len(channels)
    rows = [np.zeros((units, len(site.weight)), dtype=np.bool_) for site in network.sites]
    reached = {network.base: channels}
    for step in reversed(network.steps):
        mark = reached.pop(step.name, None)
        if mark is None:
            continue
        if step.convolution is not None:
            rows[step.convolution] |= mark
        for name, before in _push(network, step, mark):
            reached[name] = reached[name] | before if name in reached else before
    return rows


def _push(
    network: Network, step: Step, mark: NDArray[np.bool_]
) -> list[tuple[str, NDArray[np.bool_]]]:
    """From a map's mark (units, channels) to marks of the maps that it is made of."""
    if step.convolution is not None:
        source, groups = step.inputs[0], network.sites[step.convolution].groups
        by_group = mark.reshape(len(mark), groups, -1).any(2)
        return [(source, by_group.repeat(network.shape(source)[0] // groups, axis=1))]
    region = regions(network).get(step.name)
    if region is not None:
        pushed = []
        for name, read in reads(network, region).items():
            paths = mark.astype(np.float32) @ read.astype(np.float32)
            pushed.append((name, np.asarray(paths > 0)))
        return pushed
    if is_concatenation(network, step):
        names = [part.name for part in step.args[0]]
        ends = np.cumsum([network.shape(name)[0] for name in names])[:-1]
        return list(zip(names, np.split(mark, ends, axis=1), strict=True))
    channels = mark.shape[1]
    for_all = np.logical_or.reduce(mark, 1, keepdims=True)
    return [(name, mark if network.shape(name)[0] == channels else for_all) for name in step.inputs]
