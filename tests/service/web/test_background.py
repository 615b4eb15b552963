"""What takes long goes on in the background, and answers say how far it is."""

from __future__ import annotations

import re
import threading

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web import layer_masks
from circuit_atlas.service.web import reading as reading_module
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.background_thread import Background
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.work import Work
from circuit_atlas.storage_schema.errors import QueryError
from tests.patience import PATIENCE_S, until
from tests.service.stores import served

PATHS = [
    "layers/conv3/units",
    "layers/conv3/distribution",
    "images/2/units",
    "layers/conv3/units/0/similar?keep=0.5",
    "layers/conv3/uses?convolution=conv1",
]


@pytest.fixture
def slow(place, monkeypatch):
    """A server that reads one unit a step, and each step only when it is let."""
    step = threading.Semaphore(0)
    for module, owner in (
        (reading_module, reading_module.LayerReading),
        (layer_masks, layer_masks.LayerMasks),
        (layer_masks, layer_masks.LayerUses),
    ):
        monkeypatch.setattr(module, "_STEP", 1)
        whole = owner.step

        def waiting(self, whole=whole):
            step.acquire()
            return whole(self)

        monkeypatch.setattr(owner, "step", waiting)
    with (
        served(create_app(place, limits=Limits(at_once=0, on_a_page=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/") as api,
    ):
        yield api, step
        step.release(1000)


@pytest.mark.parametrize("path", PATHS)
def test_a_part_is_answered_at_once_and_the_whole_in_the_end(slow, api, path):
    partly, step = slow
    first = partly.get(path)
    body = first.json()
    assert not body["complete"]
    assert body["progress"]["read"] < body["progress"]["of"]
    assert "read so far" in body["note"]
    step.release(1000)

    def whole() -> bool:
        nonlocal body
        body = partly.get(path).json()
        return " so far" not in (body["note"] or "")

    until(whole, "all units to be read")
    # A part must not be taken for the whole.
    assert partly.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 200
    assert body == api.get(path).json()
    assert {*body["progress"].values()} == {body["progress"]["of"]}


@pytest.mark.parametrize("path", PATHS)
def test_no_file_is_made_of_a_part(slow, api, path):
    partly, step = slow
    ask = f"{path}{'&' if '?' in path else '?'}format=csv"
    refused = partly.get(ask)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json()["error"]["kind"] == "busy"
    assert re.search(r"^0 of \d units are read so far, and", refused.json()["error"]["message"])
    step.release(1000)
    until(lambda: partly.get(ask).status_code != 503, "a file of all units")
    assert partly.get(ask).text == api.get(ask).text


def test_facts_come_before_polysemanticity(place, monkeypatch):
    """A chart of circuit sizes is whole, while a list of units is not."""
    go_on = threading.Event()
    measure = reading_module.LayerReading._measure

    def waiting(self, most):
        if self.facts.index.layer == "conv3":
            go_on.wait(PATIENCE_S)
        measure(self, most)

    monkeypatch.setattr(reading_module.LayerReading, "_measure", waiting)
    with (
        served(create_app(place, limits=Limits(at_once=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/layers/conv3/") as api,
    ):
        until(lambda: api.get("distribution").json()["complete"], "the whole distribution")
        units = api.get("units").json()
        files = [api.get(f"{name}?format=csv").status_code for name in ("distribution", "units")]
        go_on.set()
    assert units["progress"] == {"read": 4, "measured": 0, "of": 4}
    assert units["note"] == "the polysemanticity of 0 of 4 units is known so far"
    assert [row["polysemanticity"] for row in units["rows"]] == [None] * 5
    assert files == [200, 503]


def test_a_unit_that_is_not_read_yet_has_a_row(slow):
    api, _ = slow
    rows = api.get("layers/conv3/units").json()["rows"]
    assert [row["state"] for row in rows] == ["done", "done", "done", "dead", "failed"]
    assert rows[0]["kernels"] == 44
    assert rows[0]["r"] == []
    assert rows[0]["image"] is None


def _ask_nothing(*given: object, **more: object) -> bool:
    """Of a background in which nothing goes on."""
    del given, more
    return True


def test_a_page_comes_with_its_own_units(place, monkeypatch):
    monkeypatch.setattr(Background, "ask", _ask_nothing)
    with served(create_app(place, limits=Limits(at_once=0))) as address:
        rows = httpx.get(f"{address}/api/v1/layers/conv3/units?offset=1&limit=1").json()["rows"]
        assert [(row["unit"], row["image"]) for row in rows] == [(1, 2)]
        assert rows[0]["r"]
        all_of_them = httpx.get(f"{address}/api/v1/layers/conv3/distribution").json()
    assert not all_of_them["complete"]
    assert {row["units"] for row in all_of_them["rows"]} == {1}


class Count:
    """A chore of some steps."""

    def __init__(self, steps: int, done: list[str], name: str) -> None:
        self.left, self.done, self.name = steps, done, name

    def step(self) -> bool:
        self.left -= 1
        self.done.append(self.name)
        if self.name == "broken":
            raise QueryError("it cannot be read")
        return self.left > 0


def test_the_last_that_was_asked_for_comes_first_and_a_broken_one_stops_none():
    work = Work(threads=1, waiting=1, patience_s=60)
    background = Background(work)
    done: list[str] = []
    held, going = threading.Event(), threading.Event()

    class Hold:
        def step(self) -> bool:
            held.set()
            going.wait(PATIENCE_S)
            return False

    background.ask(Hold())
    assert held.wait(PATIENCE_S)
    first, second, broken = Count(2, done, "1"), Count(2, done, "2"), Count(9, done, "broken")
    assert background.ask(first)
    assert background.ask(broken)
    assert background.ask(second)
    assert not background.ask(Count(1, done, "3"), most=4)
    assert background.ask(second, most=4)  # it is there already
    going.set()
    until(lambda: len(done) == 5, "five steps")
    background.close()
    work.close()
    assert done == ["2", "2", "broken", "1", "1"]
    assert not background.ask(first)


def test_what_is_kept_of_units_is_bounded(place):
    app = create_app(place, limits=Limits(digest_bytes=1, cache_bytes=0))
    with served(app) as address, httpx.Client(base_url=f"{address}/api/v1/") as api:
        for layer in ("conv3", "conv2", "conv3"):
            found = api.get(f"layers/{layer}/units").json()
            assert found["progress"]["read"] == found["progress"]["of"]
        assert app.state.server.answers.bodies.used_bytes == 0
        assert len(app.state.server._readings._layers) == 1


def test_reading_a_unit_fails_for_that_unit_alone(tmp_path, write):
    write(tmp_path / "atlas")
    (file,) = tmp_path.glob("atlas/layers/conv3/units/1/*/faithfulness.parquet")
    file.unlink()
    atlas = Atlas.open(tmp_path / "atlas")
    with served(create_app(atlas, limits=Limits(at_once=0))) as address:

        def body() -> dict:
            return httpx.get(f"{address}/api/v1/layers/conv3/units").json()

        until(lambda: len({*body()["progress"].values()}) == 1, "all units to be read")
        rows = body()["rows"]
    assert "is missing" in rows[1]["error"]
    assert rows[0]["r"]
    assert rows[2]["r"]
