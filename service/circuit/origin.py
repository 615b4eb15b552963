"""Where a circuit comes from: the unit, the atlas it was read from, and the score that chose it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.reader import Reader


@dataclass(frozen=True, eq=False)
class Origin:
    """Names one unit that a circuit was chosen for, and how.

    Attributes:
        reader: the atlas.
        layer: the layer with its kernel axis.
        unit: the unit.
        commit: its commit record.
        criterion: which score chose the kernels.
        images: the images whose scores were averaged; empty for the score of the whole set.
        alone: the circuit is this choice as it was made, no combination of several.
    """

    reader: Reader
    layer: LayerIndex
    unit: UnitInfo
    commit: Commit
    criterion: str
    images: tuple[int, ...] = ()
    alone: bool = True

    @property
    def choice(self) -> tuple[object, ...]:
        """Return what tells two origins of one model apart."""
        layer = self.layer
        return layer.layer, layer.activation, self.unit.number, self.criterion, self.images

    @property
    def name(self) -> str:
        """Return `layer/unit`."""
        return f"{self.layer.layer}/{self.unit.name}"

    def positions(
        self, index: KernelIndex, ordinal: NDArray[np.int64], local: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Find on this unit's kernel axis the kernels that another index of the same model names.

        Args:
            index: the index that `ordinal` counts over.
            ordinal: convolution of each kernel.
            local: its position among all kernels of that convolution, row-major.

        Returns:
            Places on the axis, -1 for kernels that the axis does not hold.
        """
        axis = self.layer.index
        names = {c.name: at for at, c in enumerate(axis.convolutions)}
        rows = iter(self.unit.rows)
        first = [next(rows) if c.one_row else 0 for c in axis.convolutions]
        positions = np.full(len(ordinal), -1, np.int64)
        for number, convolution in enumerate(index.convolutions):
            at = names.get(convolution.name)
            if at is None:
                continue
            here = np.flatnonzero(ordinal == number)
            held = axis.convolutions[at]
            moved = local[here] - first[at] * held.in_channels
            inside = (moved >= 0) & (moved < held.size)
            positions[here[inside]] = axis.offsets[at] + moved[inside]
        return positions


def merged(left: Sequence[Origin], right: Sequence[Origin]) -> tuple[Origin, ...]:
    """Return the origins of both, each once, the left ones first; none of them alone any more."""
    by_choice: dict[object, Origin] = {}
    for origin in (*left, *right):
        by_choice.setdefault(origin.choice, origin)
    return tuple(
        Origin(o.reader, o.layer, o.unit, o.commit, o.criterion, o.images, alone=False)
        for o in by_choice.values()
    )
