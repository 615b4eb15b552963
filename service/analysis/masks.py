"""The circuits of a layer's units as packed bits: one against all the others in a millisecond.

A convolution that is one row to each unit names other kernels for every unit: there two units
share kernels only where their rows are the same, as `KernelIndex.full_ids` counts and so does
`Circuit.iou`.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.units import find_unit, stored_commit
from circuit_atlas.service.circuit.selection import kept_mask, stored_level
from circuit_atlas.storage_schema import bits
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.ranking import KEEP
from circuit_atlas.storage_schema.reader import Reader

_THREADS = 4


class Masks:
    """Holds circuits of one criterion and kept fraction, unit after unit as they are added.

    `add` reads one unit, in a few milliseconds from a local disk; everything else asks what was
    added so far. One thread may add while others ask. Takes a bit a kernel and unit (each
    convolution rounded up to 64 kernels): 2.6 MB for 1,000 units of 20,000 kernels.
    """

    def __init__(
        self,
        reader: Reader,
        index: LayerIndex,
        *,
        keep: float = KEEP,
        criterion: str | None = None,
    ) -> None:
        """An empty set.

        Args:
            reader: of the atlas.
            index: of the layer whose units can be added.
            keep: the kept fraction of all circuits, as in `Unit.circuit`.
            criterion: one of the atlas' criteria. Default: its first.

        Raises:
            QueryError: there is no such criterion.
        """
        self.reader = reader
        self.index = index
        self.keep = keep
        self.criterion = arguments.criterion(reader, criterion)
        axis = index.index
        words = [bits.words(convolution.size) for convolution in axis.convolutions]
        self.owned = tuple(n for n, c in enumerate(axis.convolutions) if c.one_row)
        self.starts = (0, *accumulate(words))
        self._slices = axis.slices()
        # As long as the layer, so that it never moves; pages that nothing was added to take none.
        most = len(index.units)
        self._bits = np.zeros((most, self.starts[-1]), np.uint64)
        self._rows = np.zeros((most, len(self.owned)), np.int64)
        self._kernels = np.zeros((most, len(words)), np.int32)
        self._row_of: dict[int, int] = {}
        self._lock = threading.Lock()

    @property
    def units(self) -> tuple[int, ...]:
        """Return the numbers of the units that were added, in that order."""
        return tuple(self._row_of)

    def missing(self) -> tuple[int, ...]:
        """Return the units of the layer that have circuits and were not added, ascending."""
        commits = self.reader.commits(self.index.layer)
        return tuple(
            unit
            for unit, commit in commits.items()
            if commit.state == "done" and unit not in self._row_of
        )

    def add(self, unit: int | str) -> int:
        """Read a unit's circuit, unless it was added before, and return the unit's number.

        QueryError where it has none.
        """
        one = find_unit(self.index, unit)
        if one.number in self._row_of:
            return one.number
        commit = stored_commit(self.reader, self.index, one)
        mask = kept_mask(self.reader, commit, self.criterion, keep=self.keep)
        self._hold(one.number, mask)
        return one.number

    def add_all(self, units: Collection[int] | None = None) -> Masks:
        """Add all units that have circuits, or some that have, and return itself."""
        missing = self.missing() if units is None else tuple(sorted(set(units) - set(self.units)))
        if len(missing) < 2:
            for unit in missing:
                self.add(unit)
            return self
        level = stored_level(self.reader, keep=self.keep)
        if level is None:  # from scores, four at a time: object stores answer late
            with ThreadPoolExecutor(_THREADS) as pool:
                list(pool.map(self.add, missing))
            return self
        for unit, mask in self.reader.masks(
            self.index.layer, self.criterion, level, units=set(missing)
        ):
            self._hold(unit, mask)
        return self

    def _hold(self, unit: int, mask: NDArray[np.bool_]) -> None:
        """Keep the circuit of a unit, unless it was added before."""
        packed = np.concatenate([bits.pack(mask[piece]) for piece in self._slices])
        with self._lock:
            row = len(self._row_of)
            if unit not in self._row_of:
                self._bits[row] = packed
                self._rows[row] = self.index.unit(unit).rows
                self._kernels[row] = [int(mask[piece].sum()) for piece in self._slices]
                self._row_of[unit] = row  # last: only now does the unit count

    def mask(self, unit: int | str) -> NDArray[np.bool_]:
        """Return a unit's circuit on its kernel axis, added if need be. Shape: (kernels,)."""
        packed = self._bits[self._row_of[self.add(unit)]]
        return np.concatenate(
            [
                bits.unpack(packed[start:stop], piece.stop - piece.start)
                for start, stop, piece in zip(
                    self.starts[:-1], self.starts[1:], self._slices, strict=True
                )
            ]
        )

    def packed(
        self, units: Sequence[int]
    ) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
        """Copy what is held of units that were added: bits (units, words), the unit's row of each
        one-row convolution (units, owned), and kernels (units, convolutions); see `bits.shared`."""
        at = [self._row_of[unit] for unit in units]
        return self._bits[at], self._rows[at], self._kernels[at]

    def similar(self, unit: int | str, *, limit: int = 10) -> pa.Table:
        """Return the units whose circuits share most with a unit's, among those that were added,
        most first, ties by number; the unit itself is added if need be, and left out of the answer.

        Columns: unit; name; iou, kernels of both circuits over kernels of either, 0 to 1; shared,
        kernels of both; kernels, of the other circuit. Without nulls.

        Raises:
            QueryError: the unit has no circuit, or `limit` is no number from 1 up.
        """
        limit = arguments.at_least(limit, 1, what="limit")
        number = self.add(unit)
        units = sorted(self.units)
        packed, rows, counts = self.packed(units)
        row = units.index(number)
        both = bits.shared(packed, rows, row, starts=self.starts, owned=self.owned)
        shared = both.sum(axis=1, dtype=np.int64)
        sizes = counts.sum(axis=1, dtype=np.int64)
        iou = shared / (sizes + sizes[row] - shared)
        iou[row] = -1.0
        best = np.argsort(-iou, kind="stable")[: min(limit, len(units) - 1)]
        numbers = np.asarray(units, np.int32)[best]
        names = [self.index.unit(int(other)).name for other in numbers]
        return pa.table(
            {
                "unit": pa.array(numbers, pa.int32()),
                "name": pa.array(names, pa.string()),
                "iou": pa.array(iou[best], pa.float64()),
                "shared": pa.array(shared[best], pa.int32()),
                "kernels": pa.array(sizes[best], pa.int32()),
            }
        )

    def __repr__(self) -> str:
        return (
            f"<Masks of {self.index.layer}: {len(self._row_of)} circuits that keep {self.keep!r} "
            f"by {self.criterion}>"
        )
