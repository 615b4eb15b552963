"""Ranks, held against SciPy's."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import rankdata

from circuit_atlas.jobs.circuits.ranks import mean_ranks


@pytest.mark.parametrize(
    "values",
    [
        [],
        [3.0],
        [2.0, 2.0, 2.0],
        [0.0, -0.0, 5.0, -1.0, 5.0, np.inf, -np.inf, 5.0],
        [1.0, np.nan, 0.0],
        np.random.default_rng(0).integers(0, 20, 200) / 7,
        np.random.default_rng(1).standard_normal(200),
    ],
)
def test_ranks_are_those_of_scipy(values):
    values = np.asarray(values, dtype=np.float64)
    np.testing.assert_array_equal(mean_ranks(values), rankdata(values))


def test_measuring_faithfulness_does_not_wait_for_scipy():
    code = "import sys, circuit_atlas.jobs.circuits.faithfulness; print('scipy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
