"""Nothing outside the atlas can be read, however it is asked for."""

from __future__ import annotations

import http.client
import os
import shutil
import threading
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.middleware import POLICY
from circuit_atlas.storage_schema.opening import open_store
from tests.flaky_store import Faults, flaky_store
from tests.patience import PATIENCE_S
from tests.service.stores import served

NASTY = [
    "..",
    "../secret.json",
    "layers/../../secret.json",
    "/etc/passwd",
    "//etc/passwd",
    "layers//conv3/layer.json",
    "%2e%2e/secret.json",
    "%2e%2e%2fsecret.json",
    "..%2fsecret.json",
    "%252e%252e%252fsecret.json",
    "..%5csecret.json",
    "..\\secret.json",
    "%2fetc%2fpasswd",
    "layers%2fconv3%2flayer.json",
    "atlas.json%00",
    "atlas.json%00.json",
    "%00",
    "%ff%fe",
    "atlas.json%23",
    "atlas.json%231",
    "atlas.json%0a",
    "atlas.json%20",
    "atlas.json/",
    "./atlas.json",
    "%2e/atlas.json",
    "layers/./conv3/layer.json",
    ".hidden",
    "secret.json",
    "layers/conv3/secret.json",
    "layers/conv3/commits/0.json.bak",
    "layers/conv3/units/x/1/responses.parquet",
    "C:%5cwindows%5cwin.ini",
    "file:///etc/passwd",
    "a" * 3000,
]


def raw(address: str, path: str, method: str = "GET") -> tuple[int, bytes, dict[str, str]]:
    """As it is written: other clients tidy a path up before they send it."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=PATIENCE_S)
    try:
        connection.putrequest(method, path)
        connection.endheaders()
        found = connection.getresponse()
        headers = {name.lower(): value for name, value in found.getheaders()}
        return found.status, found.read(), headers
    finally:
        connection.close()


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, location):
    """An atlas with other things beside it, within it, and links out of it."""
    folder = tmp_path_factory.mktemp("raw")
    shutil.copytree(location, folder / "atlas")
    secret = folder / "secret.json"
    secret.write_text("secret")
    inside = folder / "atlas"
    (inside / "secret.json").write_text("secret")
    (inside / "layers" / "conv3" / "secret.json").write_text("secret")
    (inside / "layers" / "conv3" / "commits" / "9.json").symlink_to(secret)
    (inside / "plans" / f"{'0' * 64}.json#1").write_text("secret")
    with served(create_app(inside)) as address:
        yield address


@pytest.mark.parametrize("kind", ["objects", "listing", "names"])
@pytest.mark.parametrize("path", NASTY)
def test_nasty_paths(guarded, kind, path):
    status, body, headers = raw(guarded, f"/api/v1/{kind}/{path}")
    assert status in (400, 404, 422), body
    assert b"secret" not in body.replace(b"secret.json", b"")
    assert headers["content-type"] == "application/json"


def test_links_out_of_the_atlas_are_not_followed(guarded):
    status, body, _ = raw(guarded, "/api/v1/objects/layers/conv3/commits/9.json")
    assert (status, b"secret" in body) == (404, False)
    listed = httpx.get(f"{guarded}/api/v1/listing/layers").json()["objects"]
    paths = [entry["path"] for entry in listed]
    assert "layers/conv3/commits/0.json" in paths
    assert "layers/conv3/commits/9.json" not in paths
    names = httpx.get(f"{guarded}/api/v1/names/layers/conv3/commits").json()["names"]
    assert "9.json" not in names


def test_pipes_are_not_waited_for(tmp_path, location):
    shutil.copytree(location, tmp_path / "atlas")
    os.mkfifo(tmp_path / "atlas" / "layers" / "conv3" / "commits" / "9.json")
    with served(create_app(tmp_path / "atlas")) as address:
        status, _, _ = raw(address, "/api/v1/objects/layers/conv3/commits/9.json")
    assert status == 404


def test_a_listing_does_not_go_out_of_the_atlas(tmp_path, location):
    shutil.copytree(location, tmp_path / "atlas")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "layer.json").write_text("secret")
    (tmp_path / "atlas" / "layers" / "outside").symlink_to(tmp_path / "other")
    with served(create_app(tmp_path / "atlas")) as address:
        status, body, _ = raw(address, "/api/v1/objects/layers/outside/layer.json")
        assert (status, b"secret" in body) == (404, False)
        assert "outside" not in httpx.get(f"{address}/api/v1/names/layers").text
        for folder in ("", "/layers"):
            listed = httpx.get(f"{address}/api/v1/listing{folder}")
            assert listed.status_code == 500
            message = listed.json()["error"]["message"]
            assert message.startswith("atlas/layers/outside is a link that leads out of the atlas")
        assert httpx.get(f"{address}/api/v1/listing/layers/conv3").status_code == 200


def test_what_is_no_object_of_an_atlas_is_not_listed(guarded):
    for folder in ("", "/layers", "/plans", "/layers/conv3"):
        assert "secret" not in httpx.get(f"{guarded}/api/v1/listing{folder}").text
        assert "secret" not in httpx.get(f"{guarded}/api/v1/names{folder}").text
    assert "#" not in httpx.get(f"{guarded}/api/v1/listing").text


def test_folders_of_a_listing_that_is_too_long_are_those_of_the_atlas(tmp_path, location):
    inside = tmp_path / "atlas"
    shutil.copytree(location, inside)
    (inside / ".hidden").mkdir()
    (inside / ".hidden" / "secret.json").write_text("secret")
    with served(create_app(inside, limits=Limits(listed=0))) as address:
        root = httpx.get(f"{address}/api/v1/listing").json()
        layers = httpx.get(f"{address}/api/v1/listing/layers").json()
    assert root["folders"] == ["layers", "plans", "prepared"]
    assert [entry["path"] for entry in root["objects"]] == [
        "atlas.json",
        "images.json",
        "images.parquet",
    ]
    assert layers == {"objects": [], "folders": ["layers/conv2", "layers/conv3"]}


def test_an_object_is_what_lies_there(guarded, location):
    for path in ("atlas.json", "images.parquet", "layers/conv3/commits/0.json"):
        status, body, headers = raw(guarded, f"/api/v1/objects/{path}")
        assert (status, body) == (200, (location / path).read_bytes())
        status, body, head = raw(guarded, f"/api/v1/objects/{path}", "HEAD")
        assert (status, body) == (200, b"")
        assert head["content-length"] == headers["content-length"]


@pytest.mark.parametrize("path", ["/", "/api/v1/atlas", "/nothing", "/api/v1/objects/..", "/%ff"])
def test_every_answer_has_the_headers_that_guard_a_browser(guarded, path):
    _, _, headers = raw(guarded, path)
    assert headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_a_slash_in_a_name_is_part_of_the_name(guarded):
    found = httpx.get(f"{guarded}/api/v1/layers/a%2F..%2Fb/units/50%25")
    assert found.status_code == 404
    assert "no layer 'a/../b'" in found.json()["error"]["message"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_is_served_as_its_folder_is(tmp_path, location, kind):
    file = Path(shutil.make_archive(str(tmp_path / "atlas"), kind, location))
    path = "layers/conv3/layer.json"
    tags = []
    for _ in range(2):  # the archive is the same, the server is not
        with served(create_app(file)) as address:
            url = f"{address}/api/v1/objects/{path}"
            found = [httpx.get(url) for _ in range(2)]
            tags += [each.headers["etag"] for each in found]
            assert {each.content for each in found} == {(location / path).read_bytes()}
            assert httpx.get(url, headers={"If-None-Match": tags[0]}).status_code == 304
            unit = Atlas.open(address)["conv3"][0]
            assert unit.circuit(0.5) == Atlas.open(location)["conv3"][0].circuit(0.5)
    assert len(set(tags)) == 1
    os.utime(file, (1, 1))
    with served(create_app(file)) as address:
        assert httpx.get(f"{address}/api/v1/objects/{path}").headers["etag"] not in tags


def test_objects_that_are_sent_at_once_are_counted(location):
    with served(create_app(location, limits=Limits(streams=0))) as address:
        found = httpx.get(f"{address}/api/v1/objects/atlas.json")
        assert found.status_code == 503
        assert found.json()["error"]["kind"] == "busy"
    with served(create_app(location, limits=Limits(streams=1))) as address:
        for _ in range(5):  # each is given back
            assert httpx.get(f"{address}/api/v1/objects/atlas.json").status_code == 200


@pytest.fixture
def flaky(location):
    """The small atlas in a store that fails when it is told to."""
    with flaky_store(seed=3) as store, store.environment():
        objects = open_store(store.location)
        local = open_store(location)
        for entry in local.list():
            objects.put(entry.path, local.get(entry.path))
        yield store


def test_a_store_that_is_out_for_a_while_is_waited_for(flaky, location):
    with served(create_app(flaky.location)) as address:
        flaky.go_out()
        back = threading.Timer(1.0, flaky.come_back)
        back.start()
        answer = httpx.get(f"{address}/api/v1/objects/atlas.json", timeout=PATIENCE_S)
        back.join()
    assert answer.status_code == 200
    assert answer.content == (location / "atlas.json").read_bytes()


def test_an_object_that_comes_in_part_is_asked_for_the_rest(flaky, location):
    path = "layers/conv3/weights.parquet"
    whole = (location / path).read_bytes()
    with served(create_app(flaky.location)) as address:
        flaky.faults = Faults(rate=0.5, kinds=("truncated",))
        answers = [
            httpx.get(f"{address}/api/v1/objects/{path}", timeout=PATIENCE_S) for _ in range(4)
        ]
    assert flaky.failed["truncated"]
    assert [answer.content == whole for answer in answers] == [True] * 4
