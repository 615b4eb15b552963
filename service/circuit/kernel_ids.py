"""Kernels by number: over all convolutions of an index, as `KernelIndex.full_ids` names them."""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex

Ids = NDArray[np.int64]


def merged_index(left: KernelIndex, right: KernelIndex) -> KernelIndex:
    """Return one index for the two, whichever stands left: `a | b` and `b | a` list the same.
    QueryError where a convolution has two shapes."""
    convolutions = {c.name: c for c in left.convolutions}
    for convolution in right.convolutions:
        known = convolutions.setdefault(convolution.name, convolution)
        if _shape(known) != _shape(convolution):
            raise QueryError(
                f"{convolution.name} has shape {_shape(convolution)} in one and {_shape(known)} in "
                "the other: compare circuits of one model"
            )
    return KernelIndex(tuple(sorted(convolutions.values(), key=lambda c: (c.depth, c.name))))


def moved(ids: Ids, own: KernelIndex, index: KernelIndex) -> Ids:
    """Name kernels of one index, in the order given, by another that holds all its convolutions."""
    start = {c.name: s for c, s in zip(index.convolutions, index.full_offsets, strict=False)}
    offsets = np.asarray(own.full_offsets[:-1], np.int64)
    shift = np.asarray([start[c.name] for c in own.convolutions], np.int64) - offsets
    return ids + shift[np.searchsorted(offsets, ids, side="right") - 1]


def named(index: KernelIndex, kernel: Any) -> int | None:
    """Find the number of (convolution, output channel, input channel); None where it is none."""
    try:
        name, out, channel = kernel
        out, channel = operator.index(out), operator.index(channel)
    except (TypeError, ValueError):
        return None
    for ordinal, convolution in enumerate(index.convolutions):
        if convolution.name == name:
            group = out // (convolution.out_channels // convolution.groups)
            within = channel - group * convolution.in_channels
            if 0 <= out < convolution.out_channels and 0 <= within < convolution.in_channels:
                return index.full_offsets[ordinal] + out * convolution.in_channels + within
    return None


def located(index: KernelIndex, ids: Ids) -> tuple[Ids, Ids, Ids]:
    """Locate each kernel: convolution ordinal, output channel and input channel."""
    # With all rows of every convolution, a position on the axis is a kernel's number.
    whole = KernelIndex(tuple(replace(c, one_row=False) for c in index.convolutions))
    return whole.locate(ids, ())


def grids(index: KernelIndex, ids: Ids) -> tuple[NDArray[np.bool_], ...]:
    """Mark kernels in each convolution. Shape of each: (out channels, in channels of a group)."""
    mask = np.zeros(index.full_offsets[-1], dtype=np.bool_)
    mask[ids] = True
    pieces = np.split(mask, index.full_offsets[1:-1])
    return tuple(
        piece.reshape(c.out_channels, c.in_channels)
        for piece, c in zip(pieces, index.convolutions, strict=True)
    )


def counts(index: KernelIndex, ids: Ids) -> Ids:
    """Count how many of some kernels, ascending, lie in each convolution."""
    return np.diff(np.searchsorted(ids, index.full_offsets)).astype(np.int64)


def either(left: Ids, right: Ids) -> Ids:
    """Take the numbers of either of two ascending lists. Merged, not hashed, as `np.union1d` does:
    that takes seconds for millions."""
    both = np.concatenate([left, right])
    both.sort(kind="stable")
    return both[np.flatnonzero(np.diff(both, prepend=-1))]


def _shape(convolution: Convolution) -> tuple[int, int, int]:
    return convolution.out_channels, convolution.in_channels, convolution.groups
