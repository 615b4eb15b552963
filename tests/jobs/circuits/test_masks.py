"""Masks hold exactly the number of kernels asked for, the best ones, ties by position."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from circuit_atlas.jobs.circuits.masks import keep_best, nested_masks
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking
from circuit_atlas.storage_schema.writer import form_of

scores_with_ties = st.lists(
    st.one_of(st.integers(0, 3).map(float), st.just(float("nan"))), min_size=1, max_size=40
).filter(lambda values: not all(np.isnan(values)))
fractions = st.lists(st.floats(0.001, 1), min_size=1, max_size=6).map(
    lambda values: sorted(set(values), reverse=True)
)


@given(scores_with_ties, fractions)
def test_ladder(values, kept):
    scores = np.array(values, dtype=np.float32)
    reach = int((~np.isnan(scores)).sum())
    masks = nested_masks(scores, kept)
    for mask, fraction in zip(masks, kept, strict=True):
        count = kernels_kept(fraction, reach)
        assert mask.sum() == count == max(1, round(fraction * reach))
        best = sorted(range(len(values)), key=lambda n: (np.isnan(values[n]), -values[n], n))
        assert set(np.flatnonzero(mask)) == set(best[:count])
        np.testing.assert_array_equal(mask, keep_best(scores, count))
    assert form_of(masks) == "level", "one score's circuits lie inside each other"


def test_kernels_that_cannot_reach_the_unit_have_no_rank():
    assert ranking(np.array([np.nan, 0.0, 2.0, np.nan, 2.0])).tolist() == [2, 4, 1]
