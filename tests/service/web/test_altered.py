"""One altered unit is told of where it is asked for, and keeps no other from being answered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.errors import StoreError
from circuit_atlas.storage_schema.reader import Reader
from tests.service.stores import served

SIMILAR = "layers/conv3/units/1/similar?keep=0.5"
USES = "layers/conv3/uses?convolution=conv1&keep=0.5"


@pytest.fixture
def alter(tmp_path: Path, location: Path) -> Callable[..., Path]:
    """`alter(part)`: a copy of the small atlas in which an object of unit 0 is cut short."""

    def made(part: str) -> Path:
        folder = tmp_path / "atlas"
        shutil.copytree(location, folder)
        commit = Atlas.open(folder).layer("conv3").unit(0).commit
        (path,) = (folder / stored.path for stored in commit.objects if part in stored.path)
        path.write_bytes(path.read_bytes()[:-3])
        return folder

    return made


def answer(address: str, path: str) -> dict[str, Any]:
    """An answer."""
    found = httpx.get(f"{address}/api/v1/{path}")
    assert found.status_code == 200, found.text
    body: dict[str, Any] = found.json()
    return body


@pytest.mark.parametrize(
    ("part", "path"),
    [("/level/actgrad/", SIMILAR), ("/level/actgrad/", USES), ("/score/actgrad/", USES)],
)
def test_the_other_units_of_the_layer_are_compared(alter, location, part, path):
    with served(create_app(location)) as address:
        sound = answer(address, path)
    assert sound["note"] is None
    assert 0 in [row["unit"] for row in sound["rows"]]
    with served(create_app(alter(part))) as address:
        found = answer(address, path)
    assert found["rows"] == [row for row in sound["rows"] if row["unit"] != 0]
    assert not found["complete"]
    assert found["note"].startswith("1 unit cannot be read: unit 0 of atlas/layers/conv3/arrays")
    assert found["note"].endswith("restore it from a copy")


def test_the_altered_one_says_so(alter):
    with served(create_app(alter("/level/actgrad/"))) as address:
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/similar?keep=0.5")
    assert found.status_code == 500
    error = found.json()["error"]
    assert error["kind"] == "corrupt"
    assert "is cut or altered: run `circuit-atlas repair` on" in error["message"]


@pytest.mark.parametrize(
    ("part", "path"),
    [("/faithfulness.", "layers/conv3/distribution"), ("/responses.", "images/2/units")],
)
def test_a_list_says_which_unit_it_lacks(alter, location, part, path):
    with served(create_app(location)) as address:
        sound = answer(address, path)
    assert sound["complete"] == ("layers" in path)  # two units of conv2 are not computed
    with served(create_app(alter(part))) as address:
        found = answer(address, path)
    assert not found["complete"]
    assert found["note"].startswith("1 unit cannot be read: atlas/layers/conv3/units/0/")
    if "layers" in path:
        assert {row["units"] for row in sound["rows"]} == {3}
        assert {row["units"] for row in found["rows"]} == {2}
    else:
        assert found["rows"] == [
            row for row in sound["rows"] if (row["layer"], row["unit"]) != ("conv3", 0)
        ]


def test_an_altered_unit_has_a_row_that_says_so(alter):
    with served(create_app(alter("/faithfulness."))) as address:
        altered, sound = answer(address, "layers/conv3/units")["rows"][:2]
    assert "is cut or altered" in altered["error"]
    assert (altered["state"], altered["reachable_kernels"], altered["r"]) == ("done", 44, [])
    assert sound["r"]


def test_a_unit_that_was_built_again_is_read_again(alter, location):
    folder = alter("/faithfulness.")
    record = folder / "layers" / "conv3" / "commits" / "0.json"
    with served(create_app(folder, limits=Limits(fresh_s=0))) as address:
        assert answer(address, "layers/conv3/units")["rows"][0]["error"] is not None
        shutil.copytree(location, folder, dirs_exist_ok=True)
        kept = record.read_bytes()
        record.unlink()
        assert answer(address, "layers/conv3/units")["rows"][0]["state"] == "planned"
        assert 0 not in [row["unit"] for row in answer(address, USES)["rows"]]
        record.write_bytes(kept)
        assert answer(address, "layers/conv3/units")["rows"][0]["r"]
        assert 0 in [row["unit"] for row in answer(address, USES)["rows"]]


def test_a_store_that_fails_once_harms_no_unit(location, monkeypatch):
    with served(create_app(location)) as address:
        with monkeypatch.context() as patch:
            patch.setattr(Reader, "table", Mock(side_effect=StoreError("no answer")))
            assert httpx.get(f"{address}/api/v1/layers/conv3/units").status_code == 503
        assert answer(address, "layers/conv3/units")["rows"][0]["r"]


def test_a_unit_without_its_responses_is_similar_without_a_picture(alter):
    served_atlas = ServerState(Atlas.open(alter("/responses.")), Limits())
    altered, sound = served_atlas.tops(served_atlas.snapshot("conv3"), [0, 2])
    assert altered is None
    assert sound == (2, (0, 3, 7, 9))


@pytest.mark.parametrize(
    ("part", "path"), [("/level/actgrad/", SIMILAR), ("/responses.", "layers/conv3/units")]
)
def test_what_was_told_of_an_altered_atlas_is_not_told_of_the_mended_one(
    alter, location, part, path
):
    altered = alter(part)
    with served(create_app(altered)) as address:
        old = httpx.get(f"{address}/api/v1/{path}")
    shutil.copytree(location, altered, dirs_exist_ok=True)
    with served(create_app(altered)) as address:
        new = httpx.get(f"{address}/api/v1/{path}", headers={"If-None-Match": old.headers["etag"]})
    assert new.status_code == 200
    assert new.json() != old.json()
