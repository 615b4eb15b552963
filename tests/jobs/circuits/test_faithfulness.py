"""The measures of faithfulness, held against sums written out one term at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from circuit_atlas.jobs.circuits.faithfulness import FullResponse, class_auc, over_images
from tests.oracles import faithfulness as oracle

# Whole numbers repeat, so ties are common; far-apart values keep clear of "constant".
values = arrays(np.float64, (2, 3, 4), elements=st.integers(-8, 8).map(float))


@settings(deadline=None)
@given(values, values)
def test_measures(full, circuit):
    found = FullResponse(full).compare(circuit)
    for name in ("pearson", "spearman", "relative_l1", "change_at_maximum"):
        wanted = getattr(oracle, name)(circuit, full)
        assert getattr(found, name) == pytest.approx(wanted, abs=1e-9), name


def test_the_circuit_of_everything_is_perfect():
    maps = np.random.default_rng(0).normal(size=(3, 5, 5))
    found = FullResponse(maps).compare(maps)
    assert found.pearson == pytest.approx(1)
    assert found.spearman == pytest.approx(1)
    assert found.relative_l1 == 0
    assert found.change_at_maximum == 0


def test_the_sign_is_kept():
    maps = np.random.default_rng(0).normal(size=(3, 5, 5))
    assert FullResponse(maps).compare(-maps).pearson == pytest.approx(-1)


def test_a_constant_up_to_rounding_has_no_correlation():
    maps = np.random.default_rng(0).normal(size=(1, 5, 5))
    flat = np.full((1, 5, 5), 3.0, dtype=np.float32)
    flat[0, 2, 2] = np.nextafter(np.float32(3), np.float32(4))
    assert FullResponse(maps).compare(flat).pearson is None
    assert FullResponse(flat).compare(maps).spearman is None


def test_of_a_unit_that_is_zero_everywhere_nothing_is_defined():
    zero = np.zeros((1, 2, 2))
    found = FullResponse(zero).compare(np.ones((1, 2, 2)))
    assert (found.pearson, found.spearman, found.relative_l1, found.change_at_maximum) == (
        None,
        None,
        None,
        None,
    )


def test_where_a_unit_fires_is_counted_in_the_circuit_and_in_the_network():
    full = np.array([[[1.0, 0.0], [-1.0, 2.0]], [[0.0, 0.0], [0.5, -3.0]]])
    circuit = np.array([[[0.0, 0.0], [0.25, 0.0]], [[0.0, -1.0], [0.0, 0.0]]])
    found = FullResponse(full).compare(circuit)
    assert (found.firing, found.firing_full) == (1 / 8, 3 / 8)
    # r says nothing of it: a circuit below zero everywhere may follow the network closely.
    below = FullResponse(full).compare(full - 5)
    assert (below.firing, below.firing_full) == (0, 3 / 8)
    assert below.pearson == pytest.approx(1)


def test_r_over_images_compares_one_number_an_image():
    full = np.array([1.0, 2.0, 4.0, 7.0])
    assert over_images(2 * full + 1, full) == pytest.approx(1)
    assert over_images(np.array([0.0, 3.0, 1.0, 2.0]), full) == pytest.approx(
        np.corrcoef([0, 3, 1, 2], full)[0, 1]
    )
    assert over_images(np.ones(4), full) is None
    assert over_images(full, np.zeros(4)) is None


@settings(deadline=None)
@given(
    arrays(np.float64, 9, elements=st.integers(-3, 3).map(float)),
    arrays(np.float64, 9, elements=st.sampled_from([0.0, 1.0, np.nan])),
)
def test_auc_counts_pairs(scores, is_class):
    inside, outside = scores[is_class == 1], scores[is_class == 0]
    pairs = [float(a > b) + 0.5 * float(a == b) for a in inside for b in outside]
    wanted = sum(pairs) / len(pairs) if pairs else None
    assert class_auc(scores, is_class) == pytest.approx(wanted)


def test_auc_of_a_score_that_is_no_number_is_undefined():
    assert class_auc(np.array([1.0, np.nan]), np.array([1.0, 0.0])) is None
