"""Circuits in which every kernel acts, held against what is said of how they grow."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.jobs.circuits.connected import connected_masks, require_path
from circuit_atlas.jobs.circuits.connectivity import Connectivity
from circuit_atlas.jobs.circuits.masks import keep_best, nested_masks
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking
from tests.jobs.axis import open_double
from tests.jobs.circuits.test_connectivity import opened_chain
from tests.oracles.networks import NAMED

CASES = [(name, make().targets[-1]) for name, make in NAMED.items()]
FRACTIONS = (1.0, 0.7, 0.5, 0.3, 0.2, 0.15)


def drawn(layer: TracedLayer, unit: int, seed: int) -> np.ndarray:
    scores = np.random.default_rng(seed).random(layer.upstream.index.size)
    return np.where(layer.reachable(unit), scores, np.nan)


def acts(layer: TracedLayer, unit: int, masks: np.ndarray) -> np.ndarray:
    return Connectivity.of(layer).acting(unit, masks)


def fits(layer: TracedLayer, unit: int, mask: np.ndarray) -> bool:
    """Whether one more kernel could act in a circuit, with all that are there."""
    outside = np.flatnonzero(layer.reachable(unit) & ~mask)
    each = np.repeat(mask[None], len(outside), axis=0)
    each[np.arange(len(outside)), outside] = True
    return bool((acts(layer, unit, each).sum(axis=1) > mask.sum()).any())


def assert_connected(layer: TracedLayer, unit: int, scores: np.ndarray) -> None:
    masks = connected_masks(layer, unit, scores, FRACTIONS)
    count = int(layer.reachable(unit).sum())
    assert masks.sum(axis=1).tolist() == [kernels_kept(f, count) for f in FRACTIONS]
    assert not masks[:, ~layer.reachable(unit)].any()
    acting = acts(layer, unit, masks)
    assert acting[-1].any()
    smaller = np.zeros_like(masks[0])
    for mask, act in zip(masks[::-1], acting[::-1], strict=True):
        assert (mask | ~smaller).all(), "nested"
        if not (mask == act).all() and (smaller & ~act).sum() == 0:
            # Nothing of what is outside would act in place of what does not.
            assert not fits(layer, unit, act)
        smaller = mask


def assert_grown_by_score(layer: TracedLayer, unit: int, scores: np.ndarray) -> None:
    """What acts among the m best is in the circuit, for the largest m for which that fits."""
    order = ranking(scores)
    best = np.zeros((len(order), len(scores)), np.bool_)
    for m, position in enumerate(order):
        best[m:, position] = True
    acting = acts(layer, unit, best)
    exact = 0
    for fraction in FRACTIONS:
        (alone,) = connected_masks(layer, unit, scores, [fraction])
        fitting = acting[acting.sum(axis=1) <= alone.sum()]
        assert len(fitting) == 0 or alone[fitting[-1]].all()
        exact += len(fitting) > 0 and fitting[-1].sum() == alone.sum()
    assert exact, "of all kernels at least"


@pytest.mark.parametrize(("name", "target"), CASES)
def test_circuits_are_nested_and_all_that_fits_acts(name, target):
    layer = open_double(NAMED[name](), target)
    for seed in range(2):
        scores = drawn(layer, 1, seed)
        assert_connected(layer, 1, scores)
        assert_grown_by_score(layer, 1, scores)


def test_where_the_best_kernels_all_act_they_are_the_circuit():
    layer = open_double(NAMED["sequential"](), NAMED["sequential"]().targets[-1])
    scores, found = drawn(layer, 0, 0), 0
    for count in range(1, int(layer.reachable(0).sum()) + 1):
        best = keep_best(scores, count)
        if acts(layer, 0, best[None]).sum() == count:
            fraction = count / layer.reachable(0).sum()
            np.testing.assert_array_equal(connected_masks(layer, 0, scores, [fraction])[0], best)
            found += 1
    assert found


def test_dead_ends_give_way_in_a_network_small_enough_to_see():
    # The axis: first (0, 0), (1, 0); second (0, 0), (0, 1), (1, 0), (1, 1); last (0, 0), (0, 1).
    layer = opened_chain()
    # By score: two kernels of the second convolution that nothing leads to, then the shortcut.
    scores = np.array([0.5, 0.1, 0.2, 0.8, 0.3, 0.9, 0.7, 0.4])
    plain = nested_masks(scores, [4 / 8, 2 / 8])
    assert [np.flatnonzero(mask).tolist() for mask in plain] == [[0, 3, 5, 6], [3, 5]]
    masks = connected_masks(layer, 0, scores, [1.0, 5 / 8, 3 / 8, 2 / 8])
    assert [np.flatnonzero(mask).tolist() for mask in masks] == [
        list(range(8)),
        # last (0, 1) and second (1, 0) act together, sixth and seventh by their score.
        [0, 2, 4, 6, 7],
        # The best that acts as the circuit stands: first (0, 0) is there to be read.
        [0, 2, 6],
        [0, 6],
    ]
    # Grown from those three, no fourth acts, and the best of the others fills up.
    grown, _ = connected_masks(layer, 0, scores, [4 / 8, 3 / 8])
    assert np.flatnonzero(grown).tolist() == [0, 2, 5, 6]
    (alone,) = connected_masks(layer, 0, scores, [4 / 8])
    assert np.flatnonzero(alone).tolist() == [0, 4, 6, 7]


def test_a_fraction_too_small_for_a_path_is_told_with_what_it_takes():
    layer = opened_chain()
    require_path(layer, [0], 2 / 8)
    says = (
        "circuits.connected: fraction 0.1 keeps 1 of the 8 kernels of unit 0 of 'last', and a path "
        "from the image to it takes 2: give fractions of 0.25 and more"
    )
    with pytest.raises(SpecError) as raised:
        require_path(layer, [0], 0.1)
    assert str(raised.value) == says
