"""One altered unit is told of where it is asked for, and keeps no other from being answered."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.background_thread import Background
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.server_state import ServerState
from tests.patience import until
from tests.service.stores import served

SIMILAR = "layers/conv3/units/1/similar?keep=0.5"
USES = "layers/conv3/uses?convolution=conv1&keep=0.5"


@pytest.fixture
def alter(tmp_path: Path, place: Path) -> Callable[..., Path]:
    """`alter(part)`: a copy of the small atlas in which an object of unit 0 is cut short."""

    def made(part: str) -> Path:
        folder = tmp_path / "atlas"
        shutil.copytree(place, folder)
        commit = Atlas.open(folder).layer("conv3").unit(0).commit
        (path,) = (folder / stored.path for stored in commit.objects if part in stored.path)
        path.write_bytes(path.read_bytes()[:-3])
        return folder

    return made


def whole(address: str, path: str) -> dict[str, Any]:
    """An answer once everything that can be read is."""

    def answer() -> dict[str, Any]:
        found = httpx.get(f"{address}/api/v1/{path}")
        assert found.status_code == 200, found.text
        body: dict[str, Any] = found.json()
        return body

    def read() -> bool:
        progress = answer()["progress"]
        return bool(progress["read"] == progress["of"])

    until(read, "all units to be read")
    return answer()


@pytest.mark.parametrize("limits", [Limits(), Limits(at_once=0)], ids=["at once", "background"])
@pytest.mark.parametrize(
    ("part", "path"),
    [("/level/actgrad/", SIMILAR), ("/level/actgrad/", USES), ("/score/actgrad/", USES)],
)
def test_the_other_units_of_the_layer_are_compared(alter, place, limits, part, path):
    with served(create_app(place)) as address:
        sound = whole(address, path)
    assert sound["note"] is None
    assert 0 in [row["unit"] for row in sound["rows"]]
    with served(create_app(alter(part), limits=limits)) as address:
        found = whole(address, path)
    assert found["rows"] == [row for row in sound["rows"] if row["unit"] != 0]
    assert not found["complete"]
    assert found["note"].startswith("1 unit cannot be read: unit 0 of atlas/layers/conv3/arrays")
    assert found["note"].endswith("delete the unit's commit record and build again")


def test_the_altered_one_says_so(alter):
    with served(create_app(alter("/level/actgrad/"))) as address:
        found = httpx.get(f"{address}/api/v1/layers/conv3/units/0/similar?keep=0.5")
    assert found.status_code == 500
    error = found.json()["error"]
    assert error["kind"] == "corrupt"
    assert "is cut or altered: restore it from a copy" in error["message"]


def _ask_nothing(*given: object, **more: object) -> bool:
    """Of a background in which nothing goes on."""
    del given, more
    return True


def test_a_unit_without_its_responses_is_similar_without_a_picture(alter, monkeypatch):
    # Its facts are read for this answer alone, as those of a large layer are at first.
    monkeypatch.setattr(Background, "ask", _ask_nothing)
    served_atlas = ServerState(Atlas.open(alter("/responses.")), Limits(at_once=0))
    altered, sound = served_atlas.tops(served_atlas.snapshot("conv3"), [0, 2])
    assert altered is None
    assert sound == (2, (0, 3, 7, 9))


@pytest.mark.parametrize(
    ("part", "path"), [("/level/actgrad/", SIMILAR), ("/responses.", "layers/conv3/units")]
)
def test_what_was_told_of_an_altered_atlas_is_not_told_of_the_mended_one(alter, place, part, path):
    altered = alter(part)
    with served(create_app(altered)) as address:
        old = httpx.get(f"{address}/api/v1/{path}")
    shutil.copytree(place, altered, dirs_exist_ok=True)
    with served(create_app(altered)) as address:
        new = httpx.get(f"{address}/api/v1/{path}", headers={"If-None-Match": old.headers["etag"]})
    assert new.status_code == 200
    assert new.json() != old.json()
