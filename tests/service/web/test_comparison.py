"""The comparison of a layer's criteria over HTTP is that of the Python client."""

from __future__ import annotations

import csv
import io

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web import limits


@pytest.fixture
def ask(address):
    """`ask(layer, **query)`: the answer."""
    return lambda layer, **query: httpx.get(
        f"{address}/api/v1/layers/{layer}/comparison", params=query, timeout=60
    )


def test_the_answer_is_what_python_gives(ask, location):
    found = Atlas.open(location).compare(layer="conv3")
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


def test_what_cannot_be_compared_is_refused(ask, monkeypatch):
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
    answer = ask("conv2")  # not asked before, so not remembered
    assert answer.status_code == 413
    assert "3 units are more than this server compares (2)" in answer.json()["error"]["message"]
