"""The comparison of a layer's criteria over HTTP is that of the Python client."""

from __future__ import annotations

import csv
import io

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema import layer_paths
from tests.service.conftest import write_atlas
from tests.service.stores import served


@pytest.fixture
def ask(address):
    """`ask(layer, **query)`: the answer."""
    return lambda layer, **query: httpx.get(
        f"{address}/api/v1/layers/{layer}/comparison", params=query, timeout=60
    )


def test_the_answer_is_what_python_gives(ask, location):
    found = Atlas.open(location).compare_criteria(layer="conv3")
    body = ask("conv3").json()
    assert body["rows"] == found.table.to_pylist()
    assert body["areas"] == found.areas.to_pylist()
    assert body["pairs"] == found.pairs.to_pylist()
    assert [row["median_s"] for row in body["costs"]] == [None] * 3
    assert (body["units"], body["ablation"]) == (3, "zero")
    assert any("No interval over images" in remark for remark in body["remarks"])
    for name, table in found.tables.items():
        text = ask("conv3", format="csv", table=name).text
        rows = list(csv.reader(io.StringIO(text)))
        assert rows[0] == table.column_names
        assert len(rows) == 1 + table.num_rows


def test_what_cannot_be_compared_is_refused(ask, location, monkeypatch):
    for query, says in (
        ({"ablation": "mean"}, "has no ablation 'mean'"),
        ({"criterion": "actgrad"}, "criterion"),
        ({"table": "x"}, "table"),
    ):
        answer = ask("conv3", **query)
        assert answer.status_code in (400, 422)
        assert says in answer.json()["error"]["message"]
    assert ask("conv9").status_code == 404
    monkeypatch.setattr(limits, "COMPARED", 2)
    # A server of its own: another remembers what it answered before.
    with served(create_app(location)) as address:
        answer = httpx.get(f"{address}/api/v1/layers/conv3/comparison", timeout=60)
    assert answer.status_code == 413
    assert "3 units are more than this server compares (2)" in answer.json()["error"]["message"]


def test_an_altered_unit_is_left_out_and_told_of(tmp_path):
    write_atlas(tmp_path / "atlas")
    whole = Atlas.open(tmp_path / "atlas").compare_criteria(layer="conv3", units=[1, 2])
    folder = tmp_path / "atlas" / layer_paths.layer("conv3") / "units"
    answers = []
    for altered in ([0], [0, 1, 2]):
        for unit in altered:
            (fragment,) = (folder / str(unit)).glob("*/faithfulness.parquet")
            fragment.write_bytes(fragment.read_bytes()[:-1] + b"x")
        with served(create_app(tmp_path / "atlas")) as address:
            answers.append(httpx.get(f"{address}/api/v1/layers/conv3/comparison", timeout=60))
    body = answers[0].json()
    assert body["rows"] == whole.table.to_pylist()
    assert not body["complete"]
    assert body["note"].startswith("1 unit cannot be read: ")
    assert answers[1].status_code == 400
    assert "no unit of 'conv3' has a circuit to compare" in answers[1].text
