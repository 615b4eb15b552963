"""Facts of units read in pieces: those read at once, and an altered unit harms no other."""

from __future__ import annotations

import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.analysis.query import CircuitQuery
from circuit_atlas.service.analysis.summary import distribution, unit_table
from circuit_atlas.service.analysis.units import LayerStates
from circuit_atlas.storage_schema.errors import CorruptError


@pytest.fixture
def built(tmp_path, write):
    write(tmp_path / "atlas")
    return tmp_path / "atlas"


def facts_of(folder, layer="conv3", **more):
    reader = Atlas.open(folder).reader
    index = reader.layer(layer)
    return LayerFacts(reader, index, **more), LayerStates.read(reader, index)


def test_unit_after_unit_they_are_those_of_all_at_once(built):
    whole, states = facts_of(built, images=5)
    whole.read(states.commits)
    grown, _ = facts_of(built, images=5)
    query = CircuitQuery.of(grown.reader)
    for unit in (2, 0, 3, 1):
        before = unit_table(grown, states, query)
        assert before["image"].to_pylist()[unit] is None
        grown.read_each({unit: states.commits[unit]})
    assert grown.units == whole.units == {0, 1, 2, 3}
    assert unit_table(grown, states, query).equals(unit_table(whole, states, query))
    assert distribution(grown, states, query).equals(distribution(whole, states, query))
    for ours, theirs in zip(
        grown.responses(range(4))[1], whole.responses(range(4))[1], strict=True
    ):
        assert ours.tolist() == pytest.approx(theirs.tolist(), nan_ok=True)


@pytest.mark.parametrize("table", ["faithfulness", "responses", "groups"])
def test_an_altered_unit_keeps_none_of_the_others_from_being_read(built, table):
    (file,) = built.glob(f"layers/conv3/units/1/*/{table}.parquet")
    file.write_bytes(file.read_bytes()[:-3])
    facts, states = facts_of(built)
    with pytest.raises(CorruptError):
        facts.read(states.commits)
    facts.read_each(states.commits)
    assert facts.commits == states.commits
    assert facts.units == {0, 1, 2, 3}
    assert facts.problems.keys() == {1}
    query = CircuitQuery.of(facts.reader)
    rows = unit_table(facts, states, query).to_pylist()
    assert "cut or altered" in rows[1]["error"]
    assert rows[1]["r.1"] is None
    assert rows[0]["r.1"] is not None
    assert distribution(facts, states, query)["units"].to_pylist() == [2, 2, 2]
