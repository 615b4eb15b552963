"""A served atlas as a store: what it answers, and what it says when it cannot."""

from __future__ import annotations

import json
import pickle
import threading
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler

import httpx
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema import http_connections, http_objects
from circuit_atlas.storage_schema.errors import AtlasError, NotAnAtlasError, StoreError, WriteError
from circuit_atlas.storage_schema.http_objects import HttpObjects
from circuit_atlas.storage_schema.opening import find_store, open_store
from circuit_atlas.storage_schema.patience import Patience
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.patience import PATIENCE_S
from tests.service.stores import served
from tests.storage_schema.answering import answering, sending

OURS = {"server": "circuit-atlas", "version": "0.1.0", "api": 1}


@pytest.fixture
def local(objects, header, layer, record):
    """The store of an atlas with one unit; one of its layers has an odd name."""
    Writer(objects, header, layer).commit(record(0))
    return objects


@pytest.fixture
def address(local) -> Iterator[str]:
    with served(create_app(local.location)) as found:
        yield found


def test_it_answers_as_the_store_does(address, local):
    found = open_store(address)
    assert isinstance(found, HttpObjects)
    entries = local.list()
    assert found.list() == entries
    paths = [entry.path for entry in entries]
    assert found.get_many(paths) == local.get_many(paths)
    for folder in {path.rpartition("/")[0] for path in paths} | {"layers/none", "plans/none"}:
        assert found.list(folder) == local.list(folder), folder
        assert found.names(folder) == local.names(folder), folder
    assert found.exists(paths[0])
    assert not found.exists("layers/none/layer.json")
    with pytest.raises(FileNotFoundError, match=f"{address}/layers/none/layer.json is missing"):
        found.get("layers/none/layer.json")
    assert verify(found) == ()
    assert pickle.loads(pickle.dumps(found)).list() == entries


def test_a_listing_that_is_too_long_is_had_folder_by_folder(local):
    entries = local.list()
    assert len(entries) > 20
    with served(create_app(local.location, limits=Limits(listed=3))) as address:
        found = open_store(address)
        assert found.list() == entries
        for folder in {path.rpartition("/")[0] for path in (entry.path for entry in entries)}:
            assert found.list(folder) == local.list(folder), folder
        assert verify(found) == ()
        answer = httpx.get(f"{address}/api/v1/listing").json()
    assert [entry["path"] for entry in answer["objects"]] == [
        entry.path for entry in entries if "/" not in entry.path
    ]
    assert answer["folders"] == [name for name in local.names() if "." not in name]


@pytest.mark.parametrize(
    "location", ["http://127.0.0.1:99999", "http://[::1", "http://exa mple", "HTTP://127.0.0.1:-1"]
)
def test_what_is_no_address_is_told_so(location):
    with pytest.raises(NotAnAtlasError, match=r"is no address: .*; give the address"):
        open_store(location)


@pytest.mark.parametrize("body", [b"", b"<html>nothing here</html>", b'{"detail": "Not Found"}'])
def test_another_server_at_the_address_is_not_an_empty_atlas(body):
    with answering(sending(body, status=404)) as address:
        found = HttpObjects(address, patience=Patience(0))
        for ask in (found.list, found.names, lambda: found.get("atlas.json")):
            with pytest.raises(StoreError, match="is none of circuit-atlas': see what answers"):
                ask()


def test_an_address_may_end_with_a_slash_and_an_atlas_be_served_again(address, local):
    with served(create_app(f"{address}/")) as second:
        assert open_store(second).list() == local.list()
        assert Reader(second).layers() == Reader(local).layers()


@pytest.mark.parametrize("more", ["/?page=unit&layer=conv3&unit=0", "?page=map", "/#top"])
def test_the_address_of_a_page_will_do(address, local, more):
    found = open_store(f"{address}{more}")
    assert found.list() == local.list()
    assert found.at("atlas.json") == f"{address}/atlas.json"


def test_who_logs_in_is_never_shown(address, local):
    own = address.replace("//", "//me:secret@")
    found = open_store(own, patience_s=0)
    assert pickle.loads(pickle.dumps(found)).list() == local.list()
    shown = [found.location, found.at("atlas.json"), repr(found.store), repr(Atlas.open(own))]
    for ask in (
        partial(open_store, own, create=True),
        partial(found.get, "layers/none/layer.json"),
        partial(found.put, "atlas.json", b""),
        partial(open_store, "http://me:secret@127.0.0.1:1", patience_s=0),
        partial(open_store, "http://me:secret@127.0.0.1:port"),
        partial(open_store, f"{own}/nothing", patience_s=0),
    ):
        with pytest.raises((AtlasError, FileNotFoundError)) as caught:
            ask()
        shown.append(str(caught.value))
    assert not [text for text in shown if "secret" in text]


def test_nothing_can_be_written(address):
    found = open_store(address)
    for write in (found.put, found.put_if_absent, found.create):
        with pytest.raises(WriteError, match="a served atlas is read-only; give its folder"):
            write("atlas.json", b"")
    with pytest.raises(WriteError, match="is read-only"):
        open_store(address, create=True)
    assert find_store(address).exists("atlas.json")


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (sending(b"", status=404), NotAnAtlasError, "is no server of circuit-atlas: give the addr"),
        (sending(b"<html>Hello</html>"), NotAnAtlasError, "is no server of circuit-atlas"),
        (sending(b"[1]"), NotAnAtlasError, "is no server of circuit-atlas"),
        (sending(b'{"server": "another", "api": 1}'), NotAnAtlasError, "is no server of circuit-a"),
        (sending(b'{"server": "circuit-atlas"}'), NotAnAtlasError, "is no server of circuit-atlas"),
        (
            sending(json.dumps({**OURS, "api": 0}).encode()),
            StoreError,
            "by version 0 of the API and this circuit-atlas by 1: install a newer .* there",
        ),
        (
            sending(json.dumps({**OURS, "api": 2}).encode()),
            StoreError,
            "by version 2 of the API and this circuit-atlas by 1: install a newer .* here",
        ),
        (sending(b"", status=500), StoreError, r"cannot open http://[^ ]+: .*500"),
        (sending(json.dumps(OURS).encode(), cut=5), StoreError, "cannot open"),
    ],
)
def test_what_else_may_answer(answer, error, message):
    with answering(answer) as address, pytest.raises(error, match=message) as caught:
        open_store(address)
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


def test_nothing_answers():
    with answering(sending(b"")) as address:
        pass
    with pytest.raises(StoreError, match=f"cannot open {address}: .*; give the address") as caught:
        open_store(address)
    assert "\n" not in str(caught.value)


def test_a_server_that_goes_away_later(local):
    with served(create_app(local.location)) as address:
        found = open_store(address, patience_s=0)
        reader = Reader(found)
        commit = reader.commit("features.3", 0)
    for ask in (
        lambda: found.get("atlas.json"),
        lambda: found.list("layers"),
        lambda: found.names("layers"),
        lambda: found.exists("atlas.json"),
        lambda: reader.responses(commit),
        lambda: reader.scores(commit, "actgrad"),
    ):
        with pytest.raises(StoreError, match=f"cannot (read|list) {address}/") as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_a_body_that_is_cut_is_no_answer(local):
    whole = local.get("atlas.json")
    with answering(sending(whole, cut=10)) as address:
        found = HttpObjects(address, patience=Patience(0))
        with pytest.raises(StoreError, match=f"cannot read {address}/atlas.json"):
            found.get("atlas.json")
        with pytest.raises(StoreError, match="cannot list"):
            found.list("layers")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"null",
        b'{"objects": [{}], "names": 3}',
        b"\xff",
        b"[" * 100_000,
        b'{"objects": [{"path": 1, "size_bytes": 2}], "names": [null]}',
        b'{"objects": [{"path": "a", "size_bytes": "b"}], "names": "abc"}',
        b'{"objects": [], "folders": ["layers"], "names": {"a": 1}}',
        b'{"objects": [], "folders": ["layers/"], "names": [1]}',
        b'{"objects": [], "folders": ["elsewhere/a"], "names": [[]]}',
        b'{"objects": [], "folders": ["layers/../a"], "names": [2]}',
    ],
)
def test_an_answer_that_is_none_of_ours(body):
    with answering(sending(body)) as address:
        found = HttpObjects(address, patience=Patience(0))
        with pytest.raises(StoreError, match="cannot list"):
            found.list("layers")
        with pytest.raises(StoreError, match="cannot list"):
            found.names("layers")


def test_a_server_that_never_answers_is_given_up(monkeypatch):
    monkeypatch.setattr(http_connections, "_READ_S", 0.2)
    monkeypatch.setattr(http_objects, "_OPENING_S", 0)
    given_up = threading.Event()
    waited: list[bool] = []

    def hang(request: BaseHTTPRequestHandler) -> None:
        del request
        waited.append(given_up.wait(PATIENCE_S))

    with answering(hang) as address:
        with pytest.raises(StoreError, match=f"cannot open {address}"):
            open_store(address)
        given_up.set()
    assert waited
    assert all(waited)


def test_a_server_that_is_gone_is_told_of(local):
    with served(create_app(local.location)) as address:
        found = open_store(address, patience_s=0)
    remedy = r"no answer \(Connection refused\): see whether the server runs and can be reached"
    for ask in (lambda: found.get("atlas.json"), found.list):
        with pytest.raises(StoreError, match=remedy):
            ask()
