"""Circuits that were chosen for groups: what fits, what is read back, and what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from circuit_atlas.storage_schema import conformance
from circuit_atlas.storage_schema.errors import QueryError, RecordError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import CircuitRecord
from circuit_atlas.storage_schema.writer import Writer


@pytest.fixture
def grouped(header) -> AtlasHeader:
    """The small atlas, where `force` has circuits of groups too."""
    return dataclasses.replace(header, grouped=("force",))


@pytest.fixture
def fitting(record) -> CircuitRecord:
    made = record(1)
    rows = [dataclasses.replace(row, criterion="force") for row in made.groups]
    nested = made.criteria[0].masks.sum(axis=0, dtype=np.uint8)
    levels = np.stack([nested, nested])
    criteria = (made.criteria[0], dataclasses.replace(made.criteria[1], group_levels=levels))
    return dataclasses.replace(made, criteria=criteria, groups=(*made.groups, *rows))


def changed(record: CircuitRecord, levels: np.ndarray | None) -> CircuitRecord:
    """The record with other circuits of groups."""
    force = dataclasses.replace(record.criteria[1], group_levels=levels)
    return dataclasses.replace(record, criteria=(record.criteria[0], force))


def test_they_are_read_as_they_were_written(grouped, layer, fitting, lay_out, tmp_path):
    store = open_store(tmp_path / "grouped", create=True)
    lay_out(store, header=grouped)
    Writer(store, grouped, layer).commit(fitting)
    reader = Reader(store)
    commit = reader.commit("features.3", 1)
    levels = reader.group_levels(commit, "force")
    np.testing.assert_array_equal(levels, fitting.criteria[1].group_levels)
    with pytest.raises(QueryError, match="no circuits of groups by 'actgrad' are stored: choose"):
        reader.group_levels(commit, "actgrad")


def test_what_does_not_fit_is_refused(grouped, header, layer, fitting):
    levels = fitting.criteria[1].group_levels
    conformance.check(fitting, header=grouped, layer=layer)
    unreached = levels.copy()
    unreached[0, 2] = 1
    wrong = {
        "no circuits of groups of force: expected them for ('force',) alone": None,
        "circuits of groups of force as uint8 (1, 24): expected uint8 (2, 24)": levels[:1],
        "circuits of groups of force with kernels out of reach": unreached,
        "circuits of groups of force of [[": np.minimum(levels, 2),
    }
    for says, given in wrong.items():
        with pytest.raises(RecordError) as caught:
            conformance.check(changed(fitting, given), header=grouped, layer=layer)
        assert says in str(caught.value)
    without = dataclasses.replace(fitting, groups=fitting.groups[: len(fitting.groups) // 2])
    with pytest.raises(RecordError, match="some circuits of groups of force: expected them for"):
        conformance.check(without, header=header, layer=layer)
