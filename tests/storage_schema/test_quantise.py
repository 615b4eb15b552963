"""The stated error bound, the exact cases and the order, for any scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from circuit_atlas.storage_schema.quantise import FLOOR, RELATIVE_ERROR, dequantise, quantise

SCORES = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=40),
    elements=st.one_of(
        st.floats(0, float(np.finfo(np.float32).max), width=32),
        st.floats(0, 1, width=32),
        st.sampled_from([0.0, np.nan]),
    ),
)
# Rounding to float32: 2 ** -24 of a normal number, half the least subnormal of a smaller one.
EPS, TINY = 2.0**-24, 2.0**-150


@given(SCORES)
def test_bound_exact_cases_and_order(scores):
    codes, scale = quantise(scores)
    back = dequantise(codes, scale)

    assert (codes.dtype, scale.dtype, back.dtype) == (np.uint16, np.float32, np.float32)
    np.testing.assert_array_equal(np.isnan(back), np.isnan(scores))
    for row, read, code in zip(scores, back, codes, strict=True):
        known = ~np.isnan(row)
        row, read, code = (a[known] for a in (row.astype(np.float64), read, code))
        if not row.size:
            continue
        top = row.max()
        assert (read[row == 0] == 0).all()
        assert (read[row == top] == top).all()
        assert (code[row > 0] > 0).all()
        bound = np.where(row >= FLOOR * top, RELATIVE_ERROR * row, FLOOR * top)
        assert (np.abs(read - row) <= bound + EPS * row + TINY).all()
        order = np.argsort(row, kind="stable")
        assert (np.diff(read[order]) >= 0).all()


def test_the_bound_is_reached_and_small():
    """The bound is the real one, not a loose one: random scores come within 1 % of it."""
    scores = np.exp2(np.random.default_rng(0).uniform(-39, 0, (1, 100_000))).astype(np.float32)
    back = dequantise(*quantise(scores))
    error = float(np.max(np.abs(back.astype(np.float64) - scores) / scores))
    assert 0.99 * RELATIVE_ERROR < error < 1.001 * RELATIVE_ERROR < 2.2e-4


@pytest.mark.parametrize("bad", [-1.0, -np.inf, np.inf])
def test_scores_that_have_no_code_are_refused(bad):
    with pytest.raises(ValueError, match="finite and not negative"):
        quantise(np.array([[1.0, bad]], np.float32))


def test_codes_are_the_ones_that_are_stored():
    """Atlases hold these codes: another scale is another schema version."""
    scores = np.array([[0, np.nan, 8, 4, 8 * 2.0**-10, 8 * 2.0**-40, 8 * 2.0**-50]], np.float32)
    codes, scale = quantise(scores)
    # Code c stands for 8 * 2 ** (-40 * (65534 - c) / 65533).
    assert codes.tolist() == [[0, 65535, 65534, 63896, 49151, 1, 1]]
    assert scale.tolist() == [8]
    assert FLOOR == 2.0**-40
