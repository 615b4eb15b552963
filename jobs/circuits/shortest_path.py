"""The shortest path of kernels from where the image gets to where the unit is reached."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.connectivity import Call, Connectivity, Joint, Marks

Steps = list[NDArray[np.int32]]
"""Of each value, (1, channels): the kernels of the shortest way there from where the image gets."""

_FAR = 1 << 30


class ShortestPath:
    """Finds paths of a unit's kernels, by the ways of its layer."""

    def __init__(self, connectivity: Connectivity, number: int, rank: NDArray[np.int64]) -> None:
        """Takes the unit, and the rank of each kernel of the axis, which decides between paths of
        one length."""
        self._connectivity = connectivity
        self._rows = connectivity.unit_rows(number)
        self._rank = rank
        self._calls = [way for way in connectivity.ways if isinstance(way, Call)]
        self._way_of = {way.value: way for way in connectivity.ways}

    def find(
        self, among: NDArray[np.bool_], carries: list[Marks], needed: list[Marks]
    ) -> list[int]:
        """Finds a shortest path of some kernels: the best-ranked last kernel, and before each the
        best-ranked one.

        Args:
            among: (kernels,) bool, which may be on it.
            carries: for each value (1, channels) bool, where it may begin.
            needed: the same, where it has to end.

        Returns:
            Positions on the axis from the last kernel to the first; none where there is no path.
        """
        steps = self._steps(among, carries)
        best: tuple[int, int, int, Call] | None = None
        for ordinal, call in enumerate(self._calls):
            length = self._lengths(call, among, steps)
            length[~np.broadcast_to(call.written(self._rows, needed[call.value]), length.shape)] = (
                _FAR
            )
            if length.min() < _FAR:
                position = self._best(call, length == length.min())
                end = (int(length.min()), int(self._rank[position]), ordinal)
                if best is None or end < best[:3]:
                    best = (*end, call)
                    last = position
        return [] if best is None else self._walk_back(best[3], last, among, steps)

    def _steps(self, among: NDArray[np.bool_], carries: list[Marks]) -> Steps:
        steps = [np.where(mark, 0, _FAR).astype(np.int32) for mark in carries]
        for way in self._connectivity.ways:
            into = steps[way.value]
            if isinstance(way, Call):
                led = self._lengths(way, among, steps).min(-1).reshape(1, -1)
                part = into[:, way.outputs(self._rows)]
                np.minimum(part, led, out=part)
                continue
            for each in way.parts:
                part = into[:, each.into]
                led = steps[each.source]
                if each.read is not None:
                    led = np.where(each.read, led, _FAR).min(1)[None]
                np.minimum(part, led, out=part)
        return steps

    def _lengths(self, call: Call, among: NDArray[np.bool_], steps: Steps) -> NDArray[np.int32]:
        """The kernels of the shortest way through each kernel, (1, groups, rows, in)."""
        before = call.read(self._rows, steps[call.source])
        return np.where(call.kept(among[None]), np.minimum(before + 1, _FAR), _FAR).astype(np.int32)

    def _best(self, call: Call, marked: NDArray[np.bool_]) -> int:
        """The best-ranked of some of a convolution's kernels."""
        positions = call.piece.start + np.flatnonzero(marked)
        return int(positions[self._rank[positions].argmin()])

    def _walk_back(
        self, call: Call, position: int, among: NDArray[np.bool_], steps: Steps
    ) -> list[int]:
        path = [position]
        while True:
            shape = call.kept(among[None]).shape
            _, group, _, column = np.unravel_index(position - call.piece.start, shape)
            channel = call.inputs(self._rows).start + int(group) * shape[-1] + int(column)
            value, channel = self._through_joints(call.source, channel, steps)
            length = steps[value][0, channel]
            if length == 0:
                return path
            way = self._way_of[value]
            assert isinstance(way, Call)
            call = way
            written = np.zeros((1, self._connectivity.channels[value]), np.bool_)
            written[0, channel] = True
            ways = self._lengths(call, among, steps) == length
            position = self._best(call, ways & call.written(self._rows, written))
            path.append(position)

    def _through_joints(self, value: int, channel: int, steps: Steps) -> tuple[int, int]:
        """The channel of a convolution's result, or one where the image gets, that a channel has
        its shortest way from."""
        length = steps[value][0, channel]
        while length and isinstance(way := self._way_of[value], Joint):
            value, channel = self._before(way, channel, steps)
        return value, channel

    def _before(self, joint: Joint, channel: int, steps: Steps) -> tuple[int, int]:
        length = steps[joint.value][0, channel]
        for part in joint.parts:
            if not part.into.start <= channel < part.into.stop:
                continue
            led = steps[part.source][0]
            within = channel - part.into.start
            read = np.arange(len(led)) == (within if len(led) > 1 else 0)
            if part.read is not None:
                read = part.read[within]
            found = np.flatnonzero(read & (led == length))
            if len(found):
                return part.source, int(found[0])
        raise AssertionError("a channel has its shortest way from one of those that it is made of")
