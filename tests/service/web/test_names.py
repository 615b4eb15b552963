"""Layers and directions may be called anything; addresses, headers and files go on."""

from __future__ import annotations

import re
from urllib.parse import quote

import httpx
import pytest

from circuit_atlas.service.web.app import create_app
from tests.service.diagram import wirings
from tests.service.diagram.planted import plant
from tests.service.stores import served

NAMES = ["a/b", "50%", "%2F", "\u2192 \u00e9", 'say "so"', "a;b", "..", "a\\b", "x?y#z&w=1"]


@pytest.mark.parametrize("name", NAMES)
def test_a_direction_of_any_name_is_answered(tmp_path, name):
    plant(tmp_path / "atlas", wirings.directed(name))
    unit = quote(name, safe="").replace("..", "%2E%2E")
    with (
        served(create_app(tmp_path / "atlas")) as address,
        httpx.Client(base_url=address) as api,
    ):

        def ask(path: str) -> httpx.Response:
            # As it is written: clients tidy a path up before they send it.
            url = httpx.URL(f"{address}/").copy_with(raw_path=f"/api/v1/{path}".encode())
            return api.get(url)

        assert ask(f"layers/target/units/{unit}").json()["name"] == name
        for file in ("diagram.svg?keep=1", "circuit?keep=1&format=csv", "responses?format=parquet"):
            found = ask(f"layers/target/units/{unit}/{file}")
            assert found.status_code == 200, found.text
            saved = found.headers["content-disposition"]
            assert re.fullmatch(r'attachment; filename="target-[\w.-]+"', saved, re.ASCII), saved
        side = f"layer=target&{{}}.unit={quote(name, safe='')}&{{}}.keep=1"
        both = "&".join(f"{s}.{side.format(s, s)}" for s in ("left", "right"))
        found = ask(f"compare/diagram.svg?{both}")
        assert found.status_code == 200, found.text
