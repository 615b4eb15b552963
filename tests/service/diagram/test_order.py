"""Crossings counted exactly, and rows ordered so that there are fewer; where points then lie."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from circuit_atlas.service.diagram.crossings import crossings, inversions
from circuit_atlas.service.diagram.heights import heights, isotonic
from circuit_atlas.service.diagram.order import Columns, ordered


def brute(gap, left, right) -> int:
    """Every pair of lines."""
    lines = list(zip(gap, left, right, strict=True))
    return sum(
        a[0] == b[0] and (a[1] - b[1]) * (a[2] - b[2]) < 0
        for a, b in itertools.combinations(lines, 2)
    )


def random_columns(seed: int, *, points: int = 40, lines: int = 90, columns: int = 5) -> Columns:
    rng = np.random.default_rng(seed)
    column = np.sort(np.concatenate([np.arange(columns), rng.integers(0, columns, points)]))
    group = column * 10 + rng.integers(0, 3, len(column))
    rank = np.zeros(len(column), np.int64)
    for number in range(columns):
        here = np.flatnonzero(column == number)
        # As a layout is numbered: group after group.
        rank[here[np.argsort(group[here], kind="stable")]] = np.arange(len(here))
    start = rng.choice(np.flatnonzero(column < columns - 1), lines)
    end = [rng.choice(np.flatnonzero(column == column[s] + 1)) for s in start]
    return Columns(column, group, rank, start, np.asarray(end))


def whole(columns: Columns) -> None:
    """No rank twice, and groups stay together."""
    for number in range(int(columns.column.max()) + 1):
        here = np.flatnonzero(columns.column == number)
        assert sorted(columns.rank[here]) == list(range(len(here)))
        groups = columns.group[here[np.argsort(columns.rank[here])]]
        runs = 1 + int((groups[1:] != groups[:-1]).sum())
        assert runs == len(set(groups.tolist()))


@given(st.lists(st.integers(0, 70), max_size=60))
def test_inversions_are_all_pairs_out_of_order(values):
    slow = sum(a > b for a, b in itertools.combinations(values, 2))
    assert inversions(np.asarray(values, np.int64)) == slow


@given(st.integers(0, 10**6), st.integers(1, 80))
def test_crossings_are_all_pairs_of_lines_that_cross(seed, lines):
    rng = np.random.default_rng(seed)
    gap, left, right = rng.integers(0, 4, lines), *rng.integers(0, 9, (2, lines))
    assert crossings(gap, left, right) == brute(gap.tolist(), left.tolist(), right.tolist())


def test_no_lines_have_no_crossings():
    none = np.zeros(0, np.int64)
    assert crossings(none, none, none) == inversions(none) == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_ordering_never_adds_a_crossing_nor_parts_a_group(seed):
    columns = random_columns(seed)
    found = ordered(columns)
    whole(found)
    assert found.crossings() <= columns.crossings()
    assert found.crossings() == brute(
        found.column[found.start].tolist(),
        found.rank[found.start].tolist(),
        found.rank[found.end].tolist(),
    )


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6))
def test_no_exchange_of_two_neighbours_would_help(seed):
    found = ordered(random_columns(seed, points=25, lines=50))
    for number in range(int(found.column.max()) + 1):
        here = np.flatnonzero(found.column == number)
        here = here[np.argsort(found.rank[here])]
        for above, below in itertools.pairwise(here):
            if found.group[above] == found.group[below]:
                rank = found.rank.copy()
                rank[[above, below]] = rank[[below, above]]
                assert replace(found, rank=rank).crossings() >= found.crossings()


def test_what_can_be_drawn_without_crossings_is():
    """A tangle of ladders: the same rungs in another order on either side."""
    rng = np.random.default_rng(3)
    rows, columns = 30, 4
    column = np.repeat(np.arange(columns), rows)
    rank = np.concatenate([rng.permutation(rows) for _ in range(columns)])
    start = np.arange(rows * (columns - 1))
    tangled = Columns(column, column, rank, start, start + rows)
    assert tangled.crossings() > 500
    assert ordered(tangled).crossings() == 0


def test_ordering_is_much_better_than_none():
    ratios = [
        ordered(columns).crossings() / columns.crossings()
        for columns in (random_columns(seed, points=120, lines=220) for seed in range(5))
    ]
    # Random lines leave little to gain: .60 to .70 when this was written.
    assert np.median(ratios) < 0.72


@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(0.1, 9)), min_size=1, max_size=25))
def test_isotonic_is_the_least_squares_one(pairs):
    values, weights = np.asarray(pairs).T
    found = isotonic(values, weights)
    assert (np.diff(found) >= 0).all()
    # Optimal: each run is its own weighted mean, and no run is better cut in two.
    for value in np.unique(found):
        run = found == value
        assert np.average(values[run], weights=weights[run]) == pytest.approx(value, abs=1e-6)
        for cut in range(1, int(run.sum())):
            first = np.average(values[run][:cut], weights=weights[run][:cut])
            assert first >= value - 1e-6


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_points_keep_their_order_and_their_room(seed):
    columns = ordered(random_columns(seed))
    rng = np.random.default_rng(seed)
    room = rng.choice([0.2, 1.0, 1.4], len(columns.column))
    margin = rng.choice([0.1, 0.8], len(columns.column))
    y = heights(columns, room, margin)
    assert (y - room / 2).min() == pytest.approx(0)
    for number in range(int(columns.column.max()) + 1):
        here = np.flatnonzero(columns.column == number)
        here = here[np.argsort(columns.rank[here])]
        for above, below in itertools.pairwise(here):
            apart = (room[above] + room[below]) / 2
            if columns.group[above] != columns.group[below]:
                apart += margin[above] + margin[below]
            assert y[below] - y[above] >= apart - 1e-9
