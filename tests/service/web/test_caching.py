"""What a client has need not be sent again, and nothing old is taken for new."""

from __future__ import annotations

import gzip

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.writer import Writer
from tests.service.stores import served

PATHS = [
    "atlas",
    "layers/conv3/units",
    "layers/conv3/units/0",
    "layers/conv3/units/0/faithfulness",
    "layers/conv3/units/0/circuit?keep=0.5",
    "layers/conv3/units/0/diagram?keep=0.5",
    "images/2/file",
    "objects/images.parquet",
    "names/layers",
]


@pytest.mark.parametrize("path", PATHS)
def test_what_has_not_changed_is_not_sent_again(api, path):
    first = api.get(path)
    tag = first.headers["etag"]
    assert tag.startswith('"')
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = api.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag
    other = api.get(path, headers={"If-None-Match": '"other"'})
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize("path", PATHS)
def test_a_head_has_the_headers_of_a_get(api, path):
    got, head = api.get(path), api.head(path)
    assert head.content == b""
    assert head.status_code == 200
    for name in ("etag", "content-type", "content-length", "cache-control"):
        assert head.headers.get(name) == got.headers.get(name), name


def test_another_question_has_another_tag(api):
    tags = {
        api.get(f"layers/conv3/units/{unit}/circuit?keep={keep}").headers["etag"]
        for unit in (0, 1)
        for keep in (0.5, 0.1)
    }
    assert len(tags) == 4


def test_a_large_answer_is_compressed_for_who_takes_it(api):
    path = "layers/conv3/units"
    plain = api.get(path, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    with api.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as packed:
        data = b"".join(packed.iter_raw())
        assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(data) == plain.content
    assert len(data) < len(plain.content) / 2
    assert packed.headers["etag"] != plain.headers["etag"]
    assert packed.headers["vary"] == "Accept-Encoding"
    refused = api.get(path, headers={"Accept-Encoding": "gzip;q=0"})
    assert "content-encoding" not in refused.headers


def test_headers_that_are_lists_may_come_in_several_lines(api):
    path = "layers/conv3/units"
    packed = api.get(path, headers=[("Accept-Encoding", "br"), ("Accept-Encoding", "gzip")])
    assert packed.headers["content-encoding"] == "gzip"
    tags = [("If-None-Match", '"another"'), ("If-None-Match", packed.headers["etag"])]
    again = api.get(path, headers=[("Accept-Encoding", "gzip"), *tags])
    assert again.status_code == 304


def test_what_names_its_version_may_be_kept_for_ever(api):
    def lasting(path: str, version: str | None) -> bool:
        query = {} if version is None else {"v": version}
        return "immutable" in api.get(path, params=query).headers["cache-control"]

    atlas, unit = api.get("atlas").json()["version"], api.get("layers/conv3/units/0").json()
    assert lasting("images/2/file", atlas)
    assert lasting("layers/conv3/units/0/faithfulness", unit["version"])
    assert not lasting("images/2/file", None)
    assert not lasting("images/2/file", "other")
    assert api.get("images/2/file").headers["cache-control"] == "no-cache"
    assert api.get("atlas").headers["cache-control"] == "no-cache"


def test_a_growing_atlas_is_seen_to_grow(tmp_path, write, record):
    write(tmp_path / "atlas")
    reader = Reader(tmp_path / "atlas")
    with (
        served(create_app(tmp_path / "atlas", limits=Limits(fresh_s=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/") as api,
    ):
        before = {path: api.get(path) for path in (*PATHS[:4], "layers/conv2/units")}
        planned = api.get("layers/conv2/units/2").json()
        assert planned["state"] == "planned"
        new = record("conv2", 1)
        moved = type(new.key)(new.key.model, "conv2", 2)
        unit = type(new)(**{**vars(new), "key": moved})
        Writer(reader.objects, reader.header, reader.layer("conv2")).commit(unit)
        assert api.get("layers/conv2/units/2").json()["state"] == "done"
        rows = api.get("layers/conv2/units").json()["rows"]
        assert [row["state"] for row in rows] == ["done"] * 4
        for path, old in before.items():
            again = api.get(path, headers={"If-None-Match": old.headers["etag"]})
            changed = path in ("atlas", "layers/conv2/units")
            assert again.status_code == (200 if changed else 304), path


def test_a_layer_that_is_sealed_tells_how_polysemantic_its_units_are(tmp_path, write):
    write(tmp_path / "atlas")
    reader = Reader(tmp_path / "atlas")
    layer = Atlas.open(tmp_path / "atlas").layer("conv3")
    own = {n: layer.unit(n).polysemanticity().value for n in (0, 1, 2)}
    path = "layers/conv3/units?sort=polysemanticity&order=desc"
    with (
        served(create_app(tmp_path / "atlas", limits=Limits(fresh_s=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/") as api,
    ):
        before = api.get(path)
        assert [row["polysemanticity"] for row in before.json()["rows"]] == [None] * 5
        compact(reader.objects, reader.header, reader.layer("conv3"))
        after = api.get(path, headers={"If-None-Match": before.headers["etag"]})
        known = sorted(own, key=lambda n: (own[n] is None, -(own[n] or 0), n))
        assert after.status_code == 200
        rows = after.json()["rows"]
        assert [(row["unit"], row["polysemanticity"]) for row in rows if row["unit"] in own] == [
            (n, own[n]) for n in known
        ]
        assert [row["polysemanticity"] for row in rows[len(own) :]] == [None] * 2
        some = api.get("layers/conv3/units", params={"min.polysemanticity": 0}).json()["rows"]
        assert {row["unit"] for row in some} == {n for n in own if own[n] is not None}
        assert some
        again = api.get(path, headers={"If-None-Match": after.headers["etag"]})
        assert again.status_code == 304


def test_an_atlas_in_place_of_another_is_another(tmp_path, write):
    """The same addresses, as of a second atlas on the same port."""
    tags = []
    for name in ("one", "two"):
        write(tmp_path / name, weights=name.encode())
        with served(create_app(tmp_path / name)) as address:
            tags.append(httpx.get(f"{address}/api/v1/images/2/file").headers["etag"])
    assert tags[0] != tags[1]


def test_an_atlas_that_is_gone_is_said_to_be_until_it_is_back(tmp_path, write):
    folder, away = tmp_path / "atlas", tmp_path / "away"
    write(folder)
    paths = ("atlas", "layers", "layers/conv3/units", "layers/conv3/units/0/circuit", "search?q=c")
    with (
        served(create_app(folder, limits=Limits(fresh_s=0))) as address,
        httpx.Client(base_url=f"{address}/api/v1/") as api,
    ):
        before = {path: api.get(path).content for path in paths}
        folder.rename(away)
        for path in paths:
            found = api.get(path)
            assert found.status_code == 503, path
            assert found.headers["retry-after"] == "1"
            told = {"kind": "not_an_atlas", "message": "atlas is gone: put it back where it was"}
            assert found.json() == {"error": told}
        away.rename(folder)
        assert {path: api.get(path).content for path in paths} == before
        folder.rename(away)
        write(folder, weights=b"other")
        found = api.get("atlas")
        assert (found.status_code, found.json()["error"]["kind"]) == (503, "mismatch")
        assert "start the server again" in found.text


def test_what_is_kept_of_units_is_bounded(location):
    app = create_app(location, limits=Limits(digest_bytes=1, cache_bytes=0))
    with served(app) as address, httpx.Client(base_url=f"{address}/api/v1/") as api:
        for layer in ("conv3", "conv2", "conv3"):
            assert api.get(f"layers/{layer}/units").json()["rows"][0]["r"]
        assert app.state.server.answers.bodies.used_bytes == 0
        assert len(app.state.server._facts._layers) == 1
