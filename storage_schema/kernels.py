"""The flat kernel axis: position <-> (convolution, output channel, input channel).

A kernel is the 2-D slice `weight[out, in]` of a convolution. The axis of a layer holds every kernel
that can reach any of its units, convolution after convolution, each in row-major (out, in) order.
Of some convolutions each unit can reach one output channel alone (the target layer itself, and a
depthwise convolution before it): there the axis holds a single row, and which row it is differs
from unit to unit. A circuit of AlexNet's `features.8` has 86,592 positions so, and not 184,512.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.bounds import Name, Positive, Side


@dataclass(frozen=True)
class Convolution:
    """Describes one convolution upstream of the layer."""

    name: Annotated[Name, "The module's path in the model, as in `named_modules()`."]
    weight: Annotated[
        Name | None,
        "The parameter that holds the kernels; null where the weight is computed.",
    ]
    out_channels: Annotated[Side, "Rows of the weight."]
    in_channels: Annotated[Side, "Kernels a row, that is input channels of one group."]
    groups: Annotated[Side, "As in `torch.nn.Conv2d`."]
    kernel_size: Annotated[
        tuple[Side, Side],
        "Height and width of a kernel, in pixels of the convolution's input.",
    ]
    depth: Annotated[
        Positive,
        "Convolutions on the longest path from the image to this one, itself included.",
    ]
    one_row: Annotated[
        bool, "Whether each unit reaches one output channel alone, and the axis holds that row."
    ]

    @property
    def rows(self) -> int:
        """Return how many rows this convolution has on the axis."""
        return 1 if self.one_row else self.out_channels

    @property
    def size(self) -> int:
        """Return how many kernels this convolution has on the axis."""
        return self.rows * self.in_channels


@dataclass(frozen=True)
class KernelIndex:
    """The kernel axis of one layer; `rows` arguments name a unit's own row of each `one_row`
    convolution, in the order in which those convolutions stand on the axis (length = `owned`)."""

    convolutions: tuple[Convolution, ...]

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Return the start of each convolution on the axis, and the axis' length last."""
        starts = [0]
        for convolution in self.convolutions:
            starts.append(starts[-1] + convolution.size)
        return tuple(starts)

    @property
    def size(self) -> int:
        """Return the length of the axis, in kernels."""
        return self.offsets[-1]

    @property
    def owned(self) -> int:
        """Tell how many convolutions hold a single row that belongs to the unit."""
        return sum(convolution.one_row for convolution in self.convolutions)

    @cached_property
    def full_offsets(self) -> tuple[int, ...]:
        """Return `offsets` as they were if every convolution held all its rows: the numbering of
        `full_ids`."""
        starts = [0]
        for convolution in self.convolutions:
            starts.append(starts[-1] + convolution.out_channels * convolution.in_channels)
        return tuple(starts)

    def slices(self) -> tuple[slice, ...]:
        """Return each convolution's stretch of the axis."""
        return tuple(slice(a, b) for a, b in zip(self.offsets[:-1], self.offsets[1:], strict=True))

    def locate(
        self, positions: NDArray[np.integer], rows: tuple[int, ...]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Locate positions on a unit's axis: (convolution ordinal, output channel, input channel).

        The input channel counts over all channels of the convolution's input, groups included.
        """
        positions = np.asarray(positions, dtype=np.int64)
        ordinal = np.searchsorted(np.asarray(self.offsets[1:]), positions, side="right")
        per_row = np.asarray([c.in_channels for c in self.convolutions], dtype=np.int64)[ordinal]
        within = positions - np.asarray(self.offsets, dtype=np.int64)[ordinal]
        out = within // per_row + self._first_row(rows)[ordinal]
        per_group = np.asarray(
            [c.out_channels // c.groups for c in self.convolutions], dtype=np.int64
        )[ordinal]
        return ordinal, out, within % per_row + (out // per_group) * per_row

    def full_ids(self, rows: tuple[int, ...]) -> NDArray[np.int64]:
        """Return a name for each position that means the same kernel for every unit of the layer:
        its position on an axis where every convolution holds all its rows. Shape: (size,)."""
        ids = np.arange(self.size, dtype=np.int64)
        first = self._first_row(rows)
        for ordinal, (piece, convolution) in enumerate(
            zip(self.slices(), self.convolutions, strict=True)
        ):
            ids[piece] += (
                self.full_offsets[ordinal]
                - self.offsets[ordinal]
                + int(first[ordinal]) * convolution.in_channels
            )
        return ids

    def _first_row(self, rows: tuple[int, ...]) -> NDArray[np.int64]:
        if len(rows) != self.owned:
            raise ValueError(f"{len(rows)} own rows for {self.owned} one-row convolutions")
        own = iter(rows)
        return np.asarray([next(own) if c.one_row else 0 for c in self.convolutions], np.int64)
