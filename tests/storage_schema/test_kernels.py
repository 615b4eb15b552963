"""The kernel axis against a slow enumeration of every kernel."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex

CONVOLUTIONS = (
    Convolution("stem", "stem.weight", 4, 3, 1, (3, 3), 1, one_row=False),
    Convolution("grouped", "grouped.weight", 6, 2, 2, (3, 3), 2, one_row=False),
    Convolution("depthwise", "depthwise.weight", 6, 1, 6, (3, 3), 3, one_row=True),
    Convolution("target", "target.weight", 5, 6, 1, (1, 1), 4, one_row=True),
)
ROWS = (4, 2)


def _enumerate():
    own = iter(ROWS)
    for ordinal, c in enumerate(CONVOLUTIONS):
        outs = [next(own)] if c.one_row else range(c.out_channels)
        for out in outs:
            group = out // (c.out_channels // c.groups)
            for i in range(c.in_channels):
                yield ordinal, out, group * c.in_channels + i


def test_locate_names_every_kernel():
    index = KernelIndex(CONVOLUTIONS)
    expected = list(_enumerate())
    assert index.size == len(expected)
    located = index.locate(np.arange(index.size), ROWS)
    assert list(zip(*(a.tolist() for a in located), strict=True)) == expected


def test_full_ids_are_the_same_for_the_same_kernel_and_distinct_within_a_unit():
    index = KernelIndex(CONVOLUTIONS)
    ids = index.full_ids(ROWS)
    assert len(set(ids.tolist())) == index.size
    other = index.full_ids((4, 3))
    shared = sum(c.size for c in CONVOLUTIONS[:3])
    np.testing.assert_array_equal(ids[:shared], other[:shared])
    assert not set(ids[shared:].tolist()) & set(other[shared:].tolist())


def test_own_rows_must_be_as_many_as_one_row_convolutions():
    with pytest.raises(ValueError, match="1 own rows for 2"):
        KernelIndex(CONVOLUTIONS).full_ids((1,))
