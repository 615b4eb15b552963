"""Which circuits a question means: one rule for the nearest stored fraction."""

from __future__ import annotations

import pytest

from circuit_atlas.service.analysis.query import CircuitQuery, nearest_level, stored_fraction
from circuit_atlas.storage_schema.errors import QueryError


@pytest.mark.parametrize(
    ("fractions", "keep", "level"),
    [
        ((0.3, 0.02), 0.1, 0),  # in number .02 would be nearer
        ((1.0, 0.5, 0.1), 0.1, 2),
        ((1.0, 0.5, 0.1), 0.05, 2),
        ((0.2, 0.05), 0.1, 1),  # twice and half: the smaller
        ((0.9, 0.1), 0.3, 1),
        ((0.5,), 1e-6, 0),
    ],
)
def test_the_nearest_fraction_is_so_in_ratio_and_of_two_the_smaller(fractions, keep, level):
    assert nearest_level(fractions, keep) == level


@pytest.mark.parametrize("keep", [0, -0.1, 1.1, float("nan")])
def test_what_is_no_fraction_is_refused(keep):
    with pytest.raises(QueryError, match=r"outside \(0, 1\]"):
        nearest_level((1.0, 0.1), keep)


def test_a_stored_fraction_is_found_or_the_others_are_named(atlas):
    reader = atlas.reader
    assert stored_fraction(reader, 0.1 + 1e-12) == 0.1
    assert stored_fraction(reader, None) == 0.1
    with pytest.raises(QueryError, match=r"at=0.2 is no stored fraction.*1, 0.5, 0.1"):
        stored_fraction(reader, 0.2, what="at")


def test_a_query_has_the_defaults_of_the_atlas(atlas):
    query = CircuitQuery.of(atlas.reader)
    assert query == CircuitQuery("actgrad", "zero", "held_out", 0.9, 2, 0.1)
    rows = query.rows(atlas.layer("conv3").faithfulness()).to_pylist()
    assert rows
    assert {(row["criterion"], row["ablation"], row["split"]) for row in rows} == {
        ("actgrad", "zero", "held_out")
    }
