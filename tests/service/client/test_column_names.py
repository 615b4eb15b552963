"""A thing has one name in all tables: all columns of all tables are those of one list."""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from circuit_atlas.service import Atlas, Circuit, Layer, Unit
from circuit_atlas.service.analysis.similarity import Similarity
from circuit_atlas.service.client.checkpoints import Checkpoints
from circuit_atlas.service.client.unit_groups import Groups
from circuit_atlas.service.comparison.comparison import Comparison
from circuit_atlas.service.compute import transfer
from circuit_atlas.service.compute.evaluate import Evaluation

PAGE = Path(__file__).parents[3] / "docs" / "pages" / "python.md"
_TABLES = ("AtlasTable", "TopImages", "pa.Table")
_SQL = "images layers units responses faithfulness subfeatures groups selectivity".split()


def listed() -> set[str]:
    """The names on the page."""
    section = PAGE.read_text().partition("\n### Names of columns\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    names = [name for row in rows for name in re.findall(r"`(\w+)`", row)]
    assert len(names) == len(set(names)), "a name is listed twice"
    return set(names)


def calls() -> set[tuple[type, str]]:
    """What gives a table, by the class and the method."""
    kinds = (Atlas, Layer, Unit, Circuit, Groups, Checkpoints, Similarity, Evaluation, Comparison)
    return {
        (kind, name)
        for kind in kinds
        for name, method in inspect.getmembers(kind, inspect.isfunction)
        if not name.startswith("_") and inspect.signature(method).return_annotation in _TABLES
    }


@pytest.fixture(scope="module")
def tables(location) -> dict[tuple[type, str], list[pa.Schema]]:
    atlas = Atlas.open(location)
    layer = atlas["conv3"]
    unit = layer[0]
    circuit = unit.circuit(0.5)
    ones = np.ones((2, 3))
    every = {
        Atlas: (atlas, {"responding": [0], "search": ["c"], "channel_kernels": ["conv1", 0]}),
        Layer: (layer, {"uses": ["conv1"]}),
        Unit: (unit, {"score_selectivity": [{0: [2]}]}),
        Circuit: (circuit, {"iou_by_convolution": [circuit]}),
        Groups: (unit.groups(), {}),
        Checkpoints: (atlas.compare(atlas), {}),
        Similarity: (layer.similarity(), {"nearest": [0]}),
        Evaluation: (Evaluation("x", "zero", 1, 1, 1, 1, ones[:, 0], ones[:, 0], ones, ones), {}),
        Comparison: (atlas.compare_criteria(layer="conv3"), {}),
    }
    found = defaultdict(list)
    for kind, name in calls():
        of, arguments = every[kind]
        if (kind, name) == (Atlas, "sql"):
            given = [atlas.sql(f"SELECT * FROM {table}") for table in _SQL]
        elif (kind, name) == (Atlas, "images"):
            given = [atlas.images(files=True)]
        else:
            given = [getattr(of, name)(*arguments.get(name, ()))]
        found[kind, name] = [table.schema for table in given]
    found[Comparison, "tables"] = [table.schema for table in every[Comparison][0].tables.values()]
    found[Unit, "polysemanticity"] = [unit.polysemanticity().pairs.schema]
    found[type(transfer), "transfer"] = [transfer._SCHEMA]
    return found


def test_columns_are_those_of_one_list_and_all_of_it_is_had(tables):
    names = {name for schemas in tables.values() for schema in schemas for name in schema.names}
    assert len(tables) > 35
    assert names - listed() == set(), "columns that the page does not name"
    assert listed() - names == set(), "names that no table has"


def test_a_name_has_one_kind_of_values(tables):
    """A flag may be counted under its name; text and number are never one name."""
    kinds = defaultdict(set)
    for schemas in tables.values():
        for field in (field for schema in schemas for field in schema):
            plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            kinds[field.name].add(pa.types.is_string(plain))
    assert {name for name, both in kinds.items() if len(both) > 1} == set()
