"""Which nodes and lines of a drawing a reader sees: of one level, not hidden, on chosen paths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.diagram.data import Content, SparsityLevel
from circuit_atlas.service.diagram.look import SIDES, SIGNS, Look, NodeKind
from circuit_atlas.storage_schema.errors import QueryError

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Drawn:
    """Holds a drawing as one reader looks at it.

    Attributes:
        content: the whole drawing.
        look: how it is looked at.
    """

    content: Content
    look: Look

    @cached_property
    def number(self) -> int:
        """The level's; QueryError where the drawing has no such fraction."""
        if self.look.fraction is None:
            return 0
        fractions = [level.fraction for level in self.content.levels]
        for number, fraction in enumerate(fractions):
            if abs(fraction / self.look.fraction - 1) < 1e-6:
                return number
        raise QueryError(
            f"the drawing has no step for the fraction {self.look.fraction:g}: it has "
            + ", ".join(f"{fraction:g}" for fraction in fractions)
        )

    @property
    def level(self) -> SparsityLevel:
        """The step of the slider."""
        return self.content.levels[self.number]

    @cached_property
    def _visible(self) -> tuple[Mask, Mask]:
        """Kernels and wires of the level that are not hidden."""
        edges, bit = self.content.edges, 1 << self.number
        kernels = (np.asarray(edges.levels, np.int64) & bit) > 0
        if self.content.sides:
            kind, names = np.asarray(edges.side, np.int64), SIDES
        else:
            signs = [0.0 if c is None else c for c in edges.contribution]
            kind, names = np.sign(signs).astype(np.int64) + 1, SIGNS
        for number, name in enumerate(names):
            if name in self.look.hide:
                kernels &= kind != number
        return kernels, (np.asarray(self.content.wires.levels, np.int64) & bit) > 0

    @property
    def shown(self) -> int:
        """Count the kernels of the level that are not hidden."""
        return int(self._visible[0].sum())

    @cached_property
    def _chosen(self) -> tuple[int | None, int | None] | None:
        """The node or the kernel that is selected; QueryError where it is not in the drawing."""
        name, content = self.look.selection, self.content
        if name is None:
            return None
        names = {self._name(node): node for node in range(len(content.nodes.band))}
        if name in names:
            return names[name], None
        end, _, channel = name.rpartition(":")
        if end in names and channel.isdecimal():
            for edge, (to, into) in enumerate(
                zip(content.edges.end, content.edges.channel, strict=True)
            ):
                if to == names[end] and into == int(channel):
                    return None, edge
        raise QueryError(
            f"the drawing holds no {name!r}: give CONVOLUTION:CHANNEL of a drawn channel, or "
            "CONVOLUTION:OUT:IN of a kernel"
        )

    def _name(self, node: int) -> str:
        return f"{self.content.bands[self.content.nodes.band[node]].name}:" + str(
            self.content.nodes.channel[node]
        )

    @cached_property
    def _isolated(self) -> tuple[Mask, Mask, Mask] | None:
        """Kernels, wires and points up and down the paths of what is selected."""
        if self._chosen is None:
            return None
        content = self.content
        count = len(content.edges.end)
        start = np.asarray([*content.edges.start, *content.wires.start], np.int64)
        end = np.asarray([*content.edges.end, *content.wires.end], np.int64)
        visible = np.concatenate(self._visible)
        lines = np.zeros(len(start), np.bool_)
        points = np.zeros(len(content.nodes.band) + len(content.bends.node), np.bool_)

        def walk(first: int, here: NDArray[np.int64], there: NDArray[np.int64]) -> None:
            seen = np.zeros(len(points), np.bool_)
            seen[first] = True
            while True:
                found = visible & seen[here]
                lines[found] = True
                before = int(seen.sum())
                seen[there[found]] = True
                if int(seen.sum()) == before:
                    break
            points[seen] = True

        node, edge = self._chosen
        if edge is not None:
            lines[edge] = visible[edge]
        walk(int(end[edge]) if node is None else node, start, end)
        walk(int(start[edge]) if node is None else node, end, start)
        return lines[:count], lines[count:], points

    @cached_property
    def kernels(self) -> Sequence[int]:
        """The kernels that are drawn."""
        mask = self._visible[0] if self._isolated is None else self._isolated[0]
        return [int(edge) for edge in np.flatnonzero(mask)]

    @cached_property
    def wires(self) -> Sequence[int]:
        """The wires that are drawn."""
        mask = self._visible[1] if self._isolated is None else self._isolated[1]
        return [int(wire) for wire in np.flatnonzero(mask)]

    @cached_property
    def nodes(self) -> Sequence[int]:
        """The nodes of the level."""
        bit = 1 << self.number
        return [node for node, bits in enumerate(self.content.nodes.levels) if bits & bit]

    def faint(self, node: int) -> bool:
        """Tell whether a node is only hinted at, because it is on no path of what is selected."""
        return self._isolated is not None and not self._isolated[2][node]

    @property
    def images(self) -> NodeKind:
        """What nodes show, of what was asked for and of what there is."""
        nodes, asked = self.content.nodes, self.look.images
        featured, cropped = any(nodes.feature), any(nodes.crops)
        if asked == "none" or not (featured or cropped):
            return "none"
        if not featured:
            return "crops"
        if not cropped:
            return "features"
        return asked or "features"

    @cached_property
    def of_bands(self) -> Counter[int]:
        """Count the drawn kernels into each convolution, by the number of its band."""
        content = self.content
        return Counter(content.nodes.band[content.edges.end[edge]] for edge in self.kernels)
