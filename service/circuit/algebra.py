"""Two circuits together: what is in either, in both or in one alone, and how much they share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Protocol, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.circuit.chosen_kernels import KernelsOfModel
from circuit_atlas.service.circuit.kernel_ids import Ids, counts, either, merged_index, moved
from circuit_atlas.service.circuit.origin import merged
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import KernelIndex


class Combinable(KernelsOfModel, Protocol):
    """Is what two circuits are combined by, see `Circuit`."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


_C = TypeVar("_C", bound=Combinable)


def union(left: _C, right: _C) -> _C:
    """Take the kernels of either, see `Circuit.union`."""
    left, right = aligned(left, right)
    more = np.setdiff1d(right.ids, left.ids, assume_unique=True)
    ids = np.concatenate([left.ids, more])
    order = np.argsort(ids, kind="stable")
    none = np.full(len(more), np.nan, np.float32)
    return _combined(
        left,
        right,
        "|",
        ids[order],
        np.concatenate([left.scores, none])[order],
        np.concatenate([left.positions, np.full(len(more), -1, np.int64)])[order],
    )


def intersection(left: _C, right: _C) -> _C:
    """Take the kernels of both, see `Circuit.intersection`."""
    left, right = aligned(left, right)
    keep = np.isin(left.ids, right.ids, assume_unique=True)
    return _combined(left, right, "&", left.ids[keep], left.scores[keep], left.positions[keep])


def difference(left: _C, right: _C) -> _C:
    """Take the kernels of the left one alone, see `Circuit.difference`."""
    left, right = aligned(left, right)
    keep = ~np.isin(left.ids, right.ids, assume_unique=True)
    return _combined(left, right, "-", left.ids[keep], left.scores[keep], left.positions[keep])


def iou(left: _C, right: _C) -> float:
    """Divide the kernels of both by those of either, see `Circuit.iou`."""
    left, right = of_one_architecture(left, right)
    both = len(np.intersect1d(left.ids, right.ids, assume_unique=True))
    total = len(left.ids) + len(right.ids) - both
    return both / total if total else float("nan")


def iou_by_convolution(left: _C, right: _C) -> AtlasTable:
    """Do the same for each convolution, see `Circuit.iou_by_convolution`."""
    left, right = of_one_architecture(left, right)
    index = left.index
    both = counts(index, np.intersect1d(left.ids, right.ids, assume_unique=True))
    total = counts(index, left.ids) + counts(index, right.ids) - both
    ratio = [int(b) / int(t) if t else None for b, t in zip(both, total, strict=True)]
    return AtlasTable(
        pa.table(
            {
                "convolution": [c.name for c in index.convolutions],
                "shared": pa.array(both, pa.int32()),
                "either": pa.array(total, pa.int32()),
                "iou": pa.array(ratio, pa.float64()),
            }
        )
    )


def aligned(left: _C, right: Any) -> tuple[_C, _C]:
    """Count both circuits over one index; QueryError where they are of different models."""
    _require_circuit(left, right)
    if left.weights_sha256 != right.weights_sha256:
        raise QueryError(
            f"{left.title} and {right.title} are circuits of different models "
            f"({left.model}, weights {left.weights_sha256[:12]}, and {right.model}, weights "
            f"{right.weights_sha256[:12]}): compare circuits of one model"
        )
    return _over_one_index(left, right)


def of_one_architecture(left: _C, right: Any) -> tuple[_C, _C]:
    """Count both circuits over one index, whatever their weights are; QueryError where their
    convolutions are not the same."""
    _require_circuit(left, right)
    if left.weights_sha256 != right.weights_sha256 and left.index != right.index:
        raise QueryError(
            f"{left.title} and {right.title} are circuits of different networks ({left.model} and "
            f"{right.model}), whose convolutions are not the same: compare circuits of one "
            "network, of a layer that both atlases have"
        )
    return _over_one_index(left, right)


def _require_circuit(left: object, right: object) -> None:
    if not isinstance(right, type(left)):
        raise QueryError(f"a circuit combines with a circuit, not with a {type(right).__name__}")


def _over_one_index(left: _C, right: _C) -> tuple[_C, _C]:
    if left.index == right.index:
        return left, right
    index = merged_index(left.index, right.index)
    return _on(left, index), _on(right, index)


def _on(circuit: _C, index: KernelIndex) -> _C:
    """The same circuit, counted over an index that holds all its convolutions."""
    if index == circuit.index:
        return circuit
    ids = moved(circuit.ids, circuit.index, index)
    order = np.argsort(ids)
    return replace(
        circuit,
        index=index,
        ids=ids[order],
        reachable=np.sort(moved(circuit.reachable, circuit.index, index)),
        scores=circuit.scores[order],
        positions=circuit.positions[order],
    )


def _combined(
    left: _C,
    right: _C,
    sign: str,
    ids: Ids,
    scores: NDArray[np.float32],
    positions: Ids,
) -> _C:
    return replace(
        left,
        title=f"({left.title} {sign} {right.title})",
        ids=ids,
        reachable=either(left.reachable, right.reachable),
        scores=scores,
        positions=positions,
        origins=merged(left.origins, right.origins),
    )
