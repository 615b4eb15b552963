"""How far each layer is comes from listings, however many units there are."""

from __future__ import annotations

import httpx
import pytest

from circuit_atlas.service.web.app import create_app
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.objects import Objects
from tests.service.stores import served


@pytest.mark.parametrize("path", ["atlas", "layers"])
def test_the_first_page_reads_no_units_record(location, monkeypatch, path):
    read = []
    get = Objects.get

    def noted(self, name):
        read.append(name)
        return get(self, name)

    monkeypatch.setattr(Objects, "get", noted)
    with served(create_app(location)) as address:
        answer = httpx.get(f"{address}/api/v1/{path}").raise_for_status().json()
    layers = {row["layer"]: row for row in answer["layers" if path == "atlas" else "rows"]}
    assert {name: layers["conv3"][name] for name in ("done", "dead", "failed")} == {
        "done": 3,
        "dead": 1,
        "failed": 1,
    }
    assert layer_paths.layer_index("conv3") in read
    assert [name for name in read if layer_paths.committed_unit(name) is not None] == []
