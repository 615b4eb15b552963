"""The measures of faithfulness, held against sums written out one term at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from circuit_atlas.jobs.circuits.faithfulness import FullResponse
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


def test_of_a_silent_unit_nothing_is_defined():
    silent = np.zeros((1, 2, 2))
    found = FullResponse(silent).compare(np.ones((1, 2, 2)))
    assert vars(found) == dict.fromkeys(vars(found))
