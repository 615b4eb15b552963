"""How much the circuits of a layer's units have in common, all pairs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from html import escape

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.storage_schema import bits
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.wording import nearest

_MOST_BYTES = 2**30
_MOST_PIXELS = 1024


@dataclass(frozen=True, eq=False, repr=False)
class Similarity:
    """Holds the intersection over union (IoU) of the circuits of all pairs of units of a layer.

    Attributes:
        layer: its name.
        criterion: the score that chose the circuits.
        keep: the fraction that they keep.
        units: numbers of the units with circuits, ascending, int32. Shape: (units,).
        convolutions: names of the convolutions on the layer's kernel axis.
        kernels: kernels of each circuit in each convolution. Shape: (units, convolutions).
        shared: kernels of both circuits. Shape: (units, units).
        shared_by_convolution: the same in each convolution, where that was asked for. Shape:
            (convolutions, units, units).
    """

    layer: str
    criterion: str
    keep: float
    units: NDArray[np.int32]
    convolutions: tuple[str, ...]
    kernels: NDArray[np.int32]
    shared: NDArray[np.int32]
    shared_by_convolution: NDArray[np.int32] | None

    @property
    def iou(self) -> NDArray[np.float64]:
        """Divide the kernels of both circuits by the kernels of either, as `Circuit.iou`:
        symmetric, 1 on the diagonal. Shape: (units, units), in the order of `units`."""
        return _iou(self.shared, self.kernels.sum(axis=1, dtype=np.int64))

    def iou_of(self, convolution: str) -> NDArray[np.float64]:
        """Do the same in one convolution, as `Circuit.iou_by_convolution`; NaN where neither has a
        kernel there.

        Raises:
            QueryError: no such convolution, or convolutions were not asked for.
        """
        ordinal = self._ordinal(convolution)
        return _iou(self._by_convolution()[ordinal], self.kernels[:, ordinal].astype(np.int64))

    def nearest(self, unit: int, *, limit: int = 10) -> pa.Table:
        """Return the units whose circuits share most with that of `unit`, most first, ties by
        number.

        Columns: unit; iou; shared, kernels of both. QueryError where `unit` has no circuit.
        """
        limit = arguments.at_least(limit, 1, what="limit")
        number = arguments.whole(unit, what="unit")
        row = int(np.searchsorted(self.units, number))
        if row == len(self.units) or self.units[row] != number:
            raise QueryError(f"unit {number} of {self.layer} has no circuit among these")
        iou = self.iou[row]
        order = np.argsort(-iou, kind="stable")
        best = order[order != row][:limit]
        return pa.table(
            {
                "unit": pa.array(self.units[best], pa.int32()),
                "iou": pa.array(iou[best], pa.float64()),
                "shared": pa.array(self.shared[row, best], pa.int32()),
            }
        )

    def table(self, *, convolution: str | None = None) -> pa.Table:
        """Return one row for each pair of units, `unit` < `other_unit`, in all or in a convolution.

        Columns: unit; other_unit; shared, kernels of both circuits; either, kernels of either; iou,
        null where neither has a kernel in the convolution. 500,000 rows for 1,000 units.
        """
        first, second = np.triu_indices(len(self.units), k=1)
        if convolution is None:
            shared, sizes = self.shared, self.kernels.sum(axis=1, dtype=np.int64)
        else:
            ordinal = self._ordinal(convolution)
            shared, sizes = self._by_convolution()[ordinal], self.kernels[:, ordinal]
        both = shared[first, second]
        either = sizes[first] + sizes[second] - both
        return pa.table(
            {
                "unit": pa.array(self.units[first], pa.int32()),
                "other_unit": pa.array(self.units[second], pa.int32()),
                "shared": pa.array(both, pa.int32()),
                "either": pa.array(either, pa.int32()),
                "iou": pa.array(both / np.maximum(either, 1), pa.float64(), mask=either == 0),
            }
        )

    def _ordinal(self, convolution: str) -> int:
        if convolution not in self.convolutions:
            raise QueryError(
                f"layer {self.layer!r} has no convolution {convolution!r} on its kernel axis: "
                + nearest(convolution, self.convolutions, what="convolutions")
            )
        return self.convolutions.index(convolution)

    def _by_convolution(self) -> NDArray[np.int32]:
        if self.shared_by_convolution is None:
            raise QueryError(
                "this similarity was counted over all convolutions together: ask for it with "
                "by_convolution=True"
            )
        return self.shared_by_convolution

    def _repr_html_(self) -> str:
        """The matrix as an image, a square a pair; the lighter, the more they share."""
        data = base64.b64encode(_heat_map(self.iou)).decode()
        title = escape(repr(self)[1:-1])
        return (
            f"<figure><figcaption>{title}; IoU from 0, dark, to 1, light</figcaption>"
            f'<img alt="{title}" src="data:image/png;base64,{data}" '
            'style="width:24rem;max-width:100%;image-rendering:pixelated"></figure>'
        )

    def __repr__(self) -> str:
        return (
            f"<Similarity of {len(self.units):,} circuits of {self.layer} that keep {self.keep!r} "
            f"by {self.criterion}>"
        )


def of_masks(masks: Masks, *, by_convolution: bool = False) -> Similarity:
    """Compare all pairs of the units that were added to `masks`.

    Takes, beside a copy of the masks, 4 bytes a pair, or 4 bytes a pair and convolution: 80 MB for
    1,000 units and 20 convolutions. QueryError above 1 GiB, before anything is taken.
    """
    units = sorted(masks.units)
    names = tuple(c.name for c in masks.index.index.convolutions)
    size_bytes = 4 * len(units) ** 2 * (len(names) if by_convolution else 1)
    if size_bytes > _MOST_BYTES:
        raise QueryError(
            f"the pairs of {len(units):,} units take {size_bytes / 2**30:.1f} GiB"
            + (f" in {len(names)} convolutions: leave by_convolution out" if by_convolution else "")
        )
    packed, rows, kernels = masks.packed(units)
    shared = np.zeros((len(units), len(units)), np.int32)
    each = np.zeros((len(names), *shared.shape), np.int32) if by_convolution else None
    for row in range(len(units)):
        # A row from the diagonal on: IoU is symmetric, so this halves the work.
        counts = bits.shared(packed[row:], rows[row:], 0, starts=masks.starts, owned=masks.owned)
        shared[row, row:] = shared[row:, row] = counts.sum(axis=1)
        if each is not None:
            each[:, row, row:] = each[:, row:, row] = counts.T
    return Similarity(
        layer=masks.index.layer,
        criterion=masks.criterion,
        keep=masks.keep,
        units=np.asarray(units, np.int32),
        convolutions=names,
        kernels=kernels,
        shared=shared,
        shared_by_convolution=each,
    )


def _heat_map(iou: NDArray[np.float64]) -> bytes:
    """A PNG with one pixel a pair, NaN as 0; larger ones are sampled."""
    from PIL import Image  # most who ask look at numbers alone

    step = max(1, -(-len(iou) // _MOST_PIXELS))
    levels = np.rint(255 * np.nan_to_num(iou[::step, ::step])).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(levels).save(stream, "PNG")
    return stream.getvalue()


def _iou(shared: NDArray[np.int32], sizes: NDArray[np.int64]) -> NDArray[np.float64]:
    either = sizes[:, None] + sizes[None, :] - shared
    return np.divide(shared, either, out=np.full(shared.shape, np.nan), where=either > 0)
