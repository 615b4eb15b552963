"""Which kernels of a circuit act: those on a path of kept kernels from the image to the unit.

A kept kernel can change what the unit makes of an image only where both hold: the channel that it
reads carries the image, because kept kernels lead there from it, and kept kernels lead from the
channel that it writes to the unit. All others add a constant at most: a bias carries no image. Nor
does what stands for a dropped kernel, zero or its mean, so both ablations have the same paths.

Which channels are joined between convolutions, by sums, concatenations, gates, shuffles and
whatever else has no kernels, is the same as for reach (`network.kernel_axis`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.reads import reads, regions
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.network.step_kinds import is_concatenation
from circuit_atlas.storage_schema.kernels import Convolution

Marks = NDArray[np.bool_]
"""(circuits, channels) of a value."""


@dataclass(frozen=True)
class Part:
    """What some channels of a joint are made of.

    Attributes:
        source: number of the earlier value.
        into: the joint's channels.
        read: (channels, channels of the source) bool, which reads which; None where each reads the
            one beside it, or all read the only one.
    """

    source: int
    into: slice
    read: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Joint:
    """A value without kernels of its own: what its parts lead to it."""

    value: int
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Call:
    """One application of a convolution of the kernel axis.

    Attributes:
        value: number of its result.
        source: number of the value that it reads.
        convolution: on the axis.
        piece: its stretch of the axis.
        unit_row: its index among the one-row convolutions; None where the axis holds all rows.
    """

    value: int
    source: int
    convolution: Convolution
    piece: slice
    unit_row: int | None

    def kept(self, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Cuts its kernels out of masks: (circuits, groups, rows, in); of one row, that alone."""
        shape = (1, 1) if self.convolution.one_row else (self.convolution.groups, -1)
        return masks[:, self.piece].reshape(len(masks), *shape, self.convolution.in_channels)

    def inputs(self, rows: Sequence[int]) -> slice:
        """Says which input channels its kernels read, of the unit with these rows."""
        convolution = self.convolution
        if self.unit_row is None:
            return slice(0, convolution.groups * convolution.in_channels)
        group = rows[self.unit_row] * convolution.groups // convolution.out_channels
        return slice(group * convolution.in_channels, (group + 1) * convolution.in_channels)

    def outputs(self, rows: Sequence[int]) -> slice:
        """Says which output channels its kernels write, of the unit with these rows."""
        if self.unit_row is None:
            return slice(0, self.convolution.out_channels)
        return slice(rows[self.unit_row], rows[self.unit_row] + 1)

    def read(self, rows: Sequence[int], of_source: NDArray[Any]) -> NDArray[Any]:
        """Puts what is known of the channels of its source (circuits, channels) beside its kernels,
        as `kept` gives them."""
        read = of_source[:, self.inputs(rows)]
        return read.reshape(len(read), -1, 1, self.convolution.in_channels)

    def written(self, rows: Sequence[int], of_value: NDArray[Any]) -> NDArray[Any]:
        """Does the same with the channels of its result."""
        groups = 1 if self.convolution.one_row else self.convolution.groups
        return of_value[:, self.outputs(rows)].reshape(len(of_value), groups, -1, 1)


class Connectivity:
    """The ways of a layer's network from the image to its units, channel by channel.

    A value whose channels are those of another, one by one, has that one's number, so that only
    convolutions and what joins values are walked through. The image is number 0.

    Attributes:
        channels: of each value, by number.
        ways: what makes the values, in the order in which it runs; each value but the image has one
            at most.
    """

    def __init__(self, layer: TracedLayer) -> None:
        """Reads the ways off the layer's graph."""
        self._layer = layer
        self.channels = [layer.network.image_shape[0]]
        self._numbers = {layer.network.image: 0}
        self.ways: list[Call | Joint] = []
        one_row = [n for n, (_, each, _) in enumerate(layer.pieces()) if each.one_row]
        on_axis = {site: ordinal for ordinal, site in enumerate(layer.upstream.ordinals)}
        for step in _leading_to(layer.network, layer.network.base):
            if step.convolution is None:
                self._join(layer.network, step)
                continue
            value = self._add(step)
            if step.convolution in on_axis:
                ordinal = on_axis[step.convolution]
                piece, convolution, _ = layer.pieces()[ordinal]
                row = one_row.index(ordinal) if convolution.one_row else None
                source = self._numbers[step.inputs[0]]
                self.ways.append(Call(value, source, convolution, piece, row))

    @classmethod
    def of(cls, layer: TracedLayer) -> Connectivity:
        """Gives the layer's, read off its graph once."""
        known = layer.network.measured
        key = ("connectivity", layer.network.target.name)
        found: Connectivity | None = known.get(key)
        if found is None or found._layer is not layer:  # with other units, of the same network
            found = known[key] = cls(layer)
        return found

    def acting(self, number: int, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Marks the kernels that act in circuits of a unit.

        Args:
            number: the unit.
            masks: (circuits, kernels) bool.

        Returns:
            (circuits, kernels) bool, inside the masks.
        """
        rows = self.unit_rows(number)
        carries, needed = self.carries(number, masks), self.needed(number, masks)
        acting = np.zeros_like(masks)
        for call in self.ways:
            if isinstance(call, Call):
                used = call.kept(masks) & call.read(rows, carries[call.source])
                used &= call.written(rows, needed[call.value])
                acting[:, call.piece] |= used.reshape(len(masks), -1)
        return acting

    def sees_image(self, number: int, masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Says of circuits of a unit whether any of the image gets to it, by kernels that act or by
        a way without kernels, such as a shortcut from the image.

        Args:
            number: the unit.
            masks: (circuits, kernels) bool.

        Returns:
            (circuits,) bool; where it is false, the unit's map is the same for every image.
        """
        carried = self.carries(number, masks)[self.base]
        return np.asarray((carried & self._layer.reads(number)).any(1))

    @property
    def base(self) -> int:
        """Number of the value that is the layer's module's own output."""
        return self._numbers[self._layer.network.base]

    def unit_rows(self, number: int) -> tuple[int, ...]:
        """Gives the unit's row in each one-row convolution."""
        return self._layer.upstream.rows[number]

    def carries(self, number: int, masks: NDArray[np.bool_]) -> list[Marks]:
        """Marks the channels to which the image gets through kernels of a circuit, value by
        value."""
        rows = self.unit_rows(number)
        carries = [np.zeros((len(masks), channels), np.bool_) for channels in self.channels]
        carries[0][:] = True
        for way in self.ways:
            into = carries[way.value]
            if isinstance(way, Call):
                led = (way.kept(masks) & way.read(rows, carries[way.source])).any(-1)
                into[:, way.outputs(rows)] |= led.reshape(len(masks), -1)
                continue
            for part in way.parts:
                into[:, part.into] |= _through(carries[part.source], part.read)
        return carries

    def needed(self, number: int, masks: NDArray[np.bool_]) -> list[Marks]:
        """Marks the channels that get to the unit through kernels of a circuit, value by value."""
        rows = self.unit_rows(number)
        needed = [np.zeros((len(masks), channels), np.bool_) for channels in self.channels]
        needed[self.base][:] = self._layer.reads(number)
        for way in reversed(self.ways):
            mark = needed[way.value]
            if isinstance(way, Call):
                led = (way.kept(masks) & way.written(rows, mark)).any(2)
                needed[way.source][:, way.inputs(rows)] |= led.reshape(len(masks), -1)
                continue
            for part in way.parts:
                source = needed[part.source]
                led = mark[:, part.into]
                if part.read is not None:
                    source |= _through(led, part.read.T)
                elif source.shape[1] == led.shape[1]:
                    source |= led
                else:
                    source |= led.any(1, keepdims=True)
        return needed

    def _join(self, network: Network, step: Step) -> None:
        parts = tuple(
            Part(self._numbers[name], into, read) for name, into, read in _parts(network, step)
        )
        if len(parts) == 1 and parts[0].read is None:
            source = parts[0].source
            if self.channels[source] == step.shape[0]:
                self._numbers[step.name] = source
                return
        self.ways.append(Joint(self._add(step), parts))

    def _add(self, step: Step) -> int:
        self._numbers[step.name] = len(self.channels)
        self.channels.append(step.shape[0])
        return self._numbers[step.name]


def _leading_to(network: Network, name: str) -> list[Step]:
    """The steps that make the maps which lead to one of them, in the order in which they run."""
    leading = {name}
    for step in reversed(network.steps):
        if step.name in leading:
            if step.convolution is not None:
                leading.add(step.inputs[0])
            else:
                leading.update(source for source, _, _ in _parts(network, step))
    return [step for step in network.steps if step.name in leading]


def _parts(network: Network, step: Step) -> list[tuple[str, slice, NDArray[np.bool_] | None]]:
    """What a map that no convolution makes is made of, as in `Part`, by name."""
    whole = slice(0, step.shape[0])
    region = regions(network).get(step.name)
    if region is not None:
        return [(name, whole, read) for name, read in reads(network, region).items()]
    if is_concatenation(network, step):
        names = [part.name for part in step.args[0]]
        ends = np.cumsum([0, *(network.shape(name)[0] for name in names)]).tolist()
        slices = [slice(*pair) for pair in pairwise(ends)]
        return [(name, into, None) for name, into in zip(names, slices, strict=True)]
    return [(name, whole, None) for name in step.inputs]


def _through(mark: Marks, read: NDArray[np.bool_] | None) -> Marks:
    """A mark (circuits, channels of a source) taken to the channels that read them."""
    if read is None:
        return mark
    paths = mark.astype(np.float32) @ read.T.astype(np.float32)
    return np.asarray(paths > 0)
