"""Which channels, rows or columns of its inputs a map reads: known, or found out by trying.

A network is a chain of maps (channels x height x width): what convolutions read and give, and what
lies between as long as an operation keeps channels apart. Whatever stands between two maps besides,
in any shape, is one *region*; what it reads is measured in float64, with random values for its
input maps: change one channel, and look which channels of the result move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.network.aten import MOVES, POINTWISE, UNARY
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step
from circuit_atlas.jobs.network.step_kinds import is_channelwise, is_concatenation, moves_maps

Reads = NDArray[np.bool_]
"""(channels, rows or columns of a map, those of an input): whether the one reads the other."""

# Of a map's largest value there: far above float64 rounding, far below what a real path gives.
_MOVED = 1e-11
# Values of the largest tensor that are held at one time.
_TOGETHER = 1 << 22
_PROBES = 6
_CLONE = torch.ops.aten.clone.default
# Values of size 1; small ones, where nothing is saturated; two that are shifted; and positive ones.
_DRAWS = ("large", "small", "up", "down", "positive")
# Of rows and columns many channels are read at one time, so that fewer draws show what is read.
_DRAWS_OF_POSITIONS = ("large", "small", "positive")
# Changes large enough to become, or to cease to be, the largest or the smallest of its channels.
_SHIFT = 8.0


@dataclass(frozen=True)
class Region:
    """All that stands between a map and the maps that it is made of.

    Attributes:
        output: the map.
        inputs: the maps that it reads.
        steps: the operations, in the order in which they run; the last makes `output`.
    """

    output: str
    inputs: tuple[str, ...]
    steps: tuple[Step, ...]

    @property
    def mixes(self) -> bool:
        """Whether an element of the result may be made of several elements of one input."""
        return any(step.op not in MOVES | POINTWISE for step in self.steps)


def regions(network: Network) -> dict[str, Region]:
    """Finds the regions of a network, by the name of the step whose result is their map. Every
    other map is made by a convolution, or by a step that `aten` knows."""
    key = ("regions", network.target.name)
    if key not in network.measured:
        maps = map_names(network)
        network.measured[key] = {
            step.name: _region(network, step, maps)
            for step in network.steps
            if step.name in maps and not _is_known(network, step, maps)
        }
    found: dict[str, Region] = network.measured[key]
    return found


def map_names(network: Network) -> set[str]:
    """Finds the values that are maps for sure, seen from the image."""
    maps = {network.image, network.base, network.target.name}
    # Values that are maps' elements, moved and perhaps of more axes.
    moved: set[str] = set()
    for step in network.steps:
        if step.convolution is not None:
            maps.update((step.inputs[0], step.name))
        elif _is_known_operation(network, step) and any(name in maps for name in step.inputs):
            maps.update((*step.inputs, step.name))
        elif (
            step.inputs
            and moves_maps(network, step)
            and all(name in maps or name in moved for name in step.inputs)
        ):
            moved.add(step.name)
            if len(step.shape) == 3 and step.dtype.is_floating_point:
                maps.add(step.name)
    return maps


def reads(network: Network, region: Region, axis: int = 0) -> dict[str, Reads]:
    """Measures what a region's map reads of each of its inputs.

    Args:
        network: the network.
        region: one of its `regions`.
        axis: 0 for channels, 1 for rows, 2 for columns. Default: 0.

    Returns:
        For each input (extent of the map, extent of the input). Where the region does not run on
        random values, everything is read.
    """
    key = (region.output, region.inputs, axis)
    if key not in network.measured:
        network.measured[key] = _Trial(network, region, axis).reads()
    found: dict[str, Reads] = network.measured[key]
    return found


def _is_known_operation(network: Network, step: Step) -> bool:
    return bool(step.inputs) and (is_channelwise(network, step) or is_concatenation(network, step))


def _is_known(network: Network, step: Step, maps: set[str]) -> bool:
    """Whether a map is made of maps by a convolution or in a way that `aten` knows."""
    if step.convolution is not None:
        return True
    return _is_known_operation(network, step) and all(name in maps for name in step.inputs)


def _region(network: Network, last: Step, maps: set[str]) -> Region:
    inside, inputs = {last.name}, set()
    queue = [last]
    while queue:
        for name in queue.pop().inputs:
            if name in maps:
                inputs.add(name)
            elif name not in inside:
                inside.add(name)
                queue.append(network.by_name[name])
    order = [network.image, *network.by_name]
    return Region(
        last.name,
        tuple(name for name in order if name in inputs),
        tuple(step for step in network.steps if step.name in inside),
    )


class _Trial:
    """A region run on random values."""

    def __init__(self, network: Network, region: Region, axis: int) -> None:
        self._network = network
        self._region = region
        self._axis = axis
        self._steps = [_never_flat(_in_double(step)) for step in region.steps]
        self._extent = network.shape(region.output)[axis]
        self._alone = any(network.is_folded(step.name) for step in region.steps)
        names = (*region.inputs, *(step.name for step in region.steps))
        largest = max(prod(network.shape(name)) for name in names)
        self._together = 1 if self._alone else max(1, _TOGETHER // max(largest, 1))

    def reads(self) -> dict[str, Reads]:
        try:
            with torch.no_grad():
                if all(step.op in MOVES for step in self._region.steps):
                    return self._labelled()
                return {name: self._reads_of(name) for name in self._region.inputs}
        except (RuntimeError, IndexError, ValueError, TypeError):
            # Such as an index that random values lead outside a table.
            shape = self._network.shape
            return {
                name: np.ones((self._extent, shape(name)[self._axis]), dtype=np.bool_)
                for name in self._region.inputs
            }

    def _labelled(self) -> dict[str, Reads]:
        """What is read where elements only move: each carries the number of its part."""
        values, starts, start = {}, {}, 1
        for name in self._region.inputs:
            shape = self._network.shape(name)
            extent = [1] * (1 + len(shape))
            extent[1 + self._axis] = shape[self._axis]
            starts[name] = start
            labels = torch.arange(start, start + shape[self._axis], dtype=torch.float64)
            values[name] = labels.reshape(extent).expand(1, *shape).contiguous()
            start += shape[self._axis]
        moved = self._run(values, 1).movedim(1 + self._axis, 0).flatten(1).numpy().astype(np.int64)
        found = np.zeros((self._extent, start), dtype=np.bool_)
        found[np.arange(self._extent)[:, None], moved.clip(0, start - 1)] = True
        shape_of = self._network.shape
        return {
            name: found[:, first : first + shape_of(name)[self._axis]]
            for name, first in starts.items()
        }

    def _reads_of(self, name: str) -> Reads:
        """What is read of one input: of a few channels, and of all. Then of all at once where that
        says enough, and of each alone where it does not."""
        extent = self._network.shape(name)[self._axis]
        generator = np.random.default_rng(0)
        probes = generator.permutation(extent)[:_PROBES]
        whole, *alone = self._moved(name, [np.arange(extent), *probes[:, None]]).T
        if all((each == whole).all() for each in alone):
            return np.repeat(whole[:, None], extent, axis=1)
        found = self._by_digits(name)
        if found is None or any(
            (found[:, probe] != each).any() for probe, each in zip(probes, alone, strict=True)
        ):
            found = self._moved(name, list(np.arange(extent)[:, None]))
        return found

    def _by_digits(self, name: str) -> Reads | None:
        """What each channel may be read by at most: those that move whichever digit of its number
        is changed, among all channels that share it. None where that would be no less work than
        to change each channel alone."""
        extent = self._network.shape(name)[self._axis]
        sets: list[NDArray[np.int64]] = []
        digits: list[NDArray[np.int64]] = []
        for factors in (_factors(extent), _factors(extent)[::-1]):
            rest = np.arange(extent)
            for factor in factors:
                digits.append(rest % factor + len(sets))
                sets += [np.flatnonzero(rest % factor == value) for value in range(factor)]
                rest = rest // factor
        if len(sets) >= extent:
            return None
        moved = self._moved(name, sets)
        found: Reads = np.logical_and.reduce([moved[:, digit] for digit in digits])
        return found

    def _moved(self, name: str, sets: Sequence[NDArray[np.int64]]) -> Reads:
        """Which parts of the result move where each set of parts of an input is changed, under any
        of several draws: (extent of the result, sets).

        A part that is a finite number under none of them shows nothing, and may read all.
        """
        moved = np.zeros((self._extent, len(sets)), dtype=np.bool_)
        shown = np.zeros(self._extent, dtype=np.bool_)
        for seed, draw in enumerate(_DRAWS if self._axis == 0 else _DRAWS_OF_POSITIONS):
            generator = torch.Generator().manual_seed(seed)
            base = {each: self._draw(each, draw, generator) for each in self._region.inputs}
            change = self._draw(name, draw, generator)
            if draw in ("up", "down"):
                change = base[name] + (_SHIFT if draw == "up" else -_SHIFT)
            before = self._run(base, 1)
            shown |= before.isfinite().movedim(self._axis + 1, 0).flatten(1).any(1).numpy()
            for start in range(0, len(sets), self._together):
                part = sets[start : start + self._together]
                moved[:, start : start + len(part)] |= self._compare(
                    name, base, change, before, part
                )
        moved[~shown] = True
        return moved

    def _compare(
        self,
        name: str,
        base: Mapping[str, Tensor],
        change: Tensor,
        before: Tensor,
        sets: Sequence[NDArray[np.int64]],
    ) -> Reads:
        count, axis = len(sets), self._axis + 1
        changed = base[name].repeat(count, *[1] * (base[name].dim() - 1))
        for row, members in enumerate(sets):
            index = torch.from_numpy(members)
            changed[row : row + 1].index_copy_(axis, index, change.index_select(axis, index))
        values = {each: value.expand(count, *value.shape[1:]) for each, value in base.items()} | {
            name: changed
        }
        after = self._run(values, count)
        size = torch.maximum(_finite(before), _finite(after))
        other = [n for n in range(1, before.dim()) if n != axis]
        size = size.amax(other, keepdim=True) if other else size
        same = (after == before) | (after.isnan() & before.isnan())
        same |= (after.double() - before.double()).abs() <= _MOVED * size
        still = ~same
        moved: Reads = (still.amax(other) if other else still).numpy().T
        return moved

    def _run(self, values: Mapping[str, Tensor], count: int) -> Tensor:
        network = self._network
        results: dict[str, Any] = {**network.sizes.at(count, network.image), **values}
        for step in self._steps:
            results[step.name] = step.run(results)
        result: Tensor = results[self._region.output]
        return result

    def _draw(self, name: str, draw: str, generator: torch.Generator) -> Tensor:
        """Values for a map, of either sign but in the draw of positive ones."""
        shape = (1, *self._network.shape(name))
        if draw == "positive":
            return torch.rand(shape, generator=generator, dtype=torch.float64) + 0.5
        values = torch.randn(shape, generator=generator, dtype=torch.float64)
        return 0.1 * values if draw == "small" else values


def _finite(values: Tensor) -> Tensor:
    return values.double().abs().nan_to_num(0.0, 0.0, 0.0)


def _factors(number: int) -> list[int]:
    """The prime factors, smallest first."""
    factors, divisor = [], 2
    while number > 1:
        while number % divisor == 0:
            factors.append(divisor)
            number //= divisor
        divisor += 1
    return factors


def _never_flat(step: Step) -> Step:
    """The step, or its input where it is a function of each element alone: it may be flat wherever
    random values lie, as a ReLU is below zero, and depends on them all the same."""
    of_tensor = len(step.inputs) == 1 and isinstance(step.args[0], Ref)
    if step.op not in UNARY or not of_tensor or not step.dtype.is_floating_point:
        return step
    return replace(step, op="clone", call=_CLONE, args=step.args[:1], kwargs={})


def _in_double(step: Step) -> Step:
    """The step in float64 on a processor; a constant of zeros, such as a weight that has not been
    trained, counts as any other."""
    generator = torch.Generator().manual_seed(0)

    def converted(argument: Any) -> Any:
        if isinstance(argument, Tensor):
            if not argument.is_floating_point():
                return argument.cpu()
            value = argument.detach().cpu().double()
            if value.dim() > 0 and not value.any():
                return torch.randn(value.shape, generator=generator, dtype=torch.float64)
            return value
        if isinstance(argument, torch.dtype):
            return torch.float64 if argument.is_floating_point else argument
        if isinstance(argument, torch.device):
            return torch.device("cpu")
        if isinstance(argument, (tuple, list)):
            return type(argument)(converted(item) for item in argument)
        return argument

    return replace(
        step,
        args=converted(step.args),
        kwargs={key: converted(value) for key, value in step.kwargs.items()},
    )
