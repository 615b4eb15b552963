"""Scores and circuits of all units of a layer as one array, read a block of units at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.circuit.selection import kept_mask, run_scores, stored_level
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.reader import Reader

BLOCK = 64
"""Units that are read together where nothing else is said."""


class LayerArray:
    """Is an array (units, kernels) over the units of a layer that have circuits, by ascending
    number, of which nothing is read before it is asked for.

    `array[3]` reads one row and `array[10:20]` ten, `numpy.asarray(array)` reads all of them, and
    `array.blocks()` goes over all with one block in memory. What lies at a position of the second
    axis is told by `Layer.kernels`.

    Attributes:
        layer: its name.
        criterion: the score, or which score chose the circuits.
        units: number of the unit of each row, int32. Shape: (units,).
        shape: (units, kernels).
        dtype: of the values.
    """

    def __init__(
        self,
        index: LayerIndex,
        criterion: str,
        units: Sequence[int],
        dtype: DTypeLike,
        read: Callable[[Sequence[int]], NDArray[Any]],
    ) -> None:
        """Take what reads the rows of some units."""
        self.layer = index.layer
        self.criterion = criterion
        self.units = np.asarray(units, np.int32)
        self.shape = (len(units), index.index.size)
        self.dtype = np.dtype(dtype)
        self._read = read

    def __len__(self) -> int:
        """How many units."""
        return len(self.units)

    def __getitem__(self, rows: int | slice) -> NDArray[Any]:
        """Read the row of a unit, (kernels,), or those of several, (units, kernels)."""
        if isinstance(rows, slice):
            return self._rows(self.units[rows].tolist())
        number = arguments.whole(rows, what="row")
        if not -len(self) <= number < len(self):
            raise IndexError(f"row {number} of {len(self)}")
        row: NDArray[Any] = self._rows([int(self.units[number])])[0]
        return row

    def blocks(self, units: int = BLOCK) -> Iterator[tuple[NDArray[np.int32], NDArray[Any]]]:
        """Give the numbers of some units and their rows, block after block.

        QueryError where `units`, how many a block has at most, is no number from 1 up.
        """
        size = arguments.at_least(units, 1, what="units")
        for at in range(0, len(self), size):
            yield self.units[at : at + size], self[at : at + size]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Read all of it."""
        if copy is False:
            raise ValueError("the rows are read anew, so there is always a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def _rows(self, units: Sequence[int]) -> NDArray[Any]:
        return self._read(units) if units else np.empty((0, self.shape[1]), self.dtype)

    def __repr__(self) -> str:
        units, kernels = self.shape
        return (
            f"<LayerArray {self.dtype} of {self.layer} by {self.criterion}: {units:,} units, "
            f"{kernels:,} kernels>"
        )


def layer_scores(
    reader: Reader, index: LayerIndex, *, criterion: str | None, keep: float | None
) -> LayerArray:
    """Return what `Layer.scores` gives, whose arguments these are."""
    chosen = arguments.criterion(reader, criterion)
    if keep is not None:
        stored_level(reader, keep=keep)  # a fraction that is none says so
    commits = _done(reader, index)

    def read(units: Sequence[int]) -> NDArray[np.float32]:
        rows = np.empty((len(units), index.index.size), np.float32)
        for row, unit in enumerate(units):
            rows[row] = (
                reader.scores(commits[unit], chosen)[0]
                if keep is None
                else run_scores(reader, commits[unit], chosen, keep=keep)
            )
        return rows

    return LayerArray(index, chosen, sorted(commits), np.float32, read)


def layer_masks(
    reader: Reader, index: LayerIndex, *, criterion: str | None, keep: float
) -> LayerArray:
    """Return what `Layer.masks` gives, whose arguments these are."""
    chosen = arguments.criterion(reader, criterion)
    level = stored_level(reader, keep=keep)
    reason = reader.header.only_stored(chosen)
    if level is None and reason is not None:
        known = ", ".join(f"{fraction:g}" for fraction in reader.header.fractions)
        raise QueryError(
            f"{reason}, so only its stored circuits can be had; keep is one of {known}"
        )
    commits = _done(reader, index)

    def read(units: Sequence[int]) -> NDArray[np.bool_]:
        rows = np.empty((len(units), index.index.size), np.bool_)
        if level is None:
            for row, unit in enumerate(units):
                rows[row] = kept_mask(reader, commits[unit], chosen, keep=keep)
            return rows
        at = {unit: row for row, unit in enumerate(units)}
        for unit, mask in reader.masks(index.layer, chosen, level, units=at.keys()):
            rows[at[unit]] = mask
        return rows

    return LayerArray(index, chosen, sorted(commits), np.bool_, read)


def _done(reader: Reader, index: LayerIndex) -> dict[int, Any]:
    commits = reader.commits(index.layer)
    return {unit: commit for unit, commit in commits.items() if commit.state == "done"}
