"""An atlas served from the address of another server, which is believed little."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from urllib.parse import unquote

import httpx
import pytest
from starlette.types import ASGIApp

from circuit_atlas.service import Atlas
from circuit_atlas.service.web.app import create_app
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.storage_schema import pace
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from tests.patience import PATIENCE_S
from tests.service.stores import served
from tests.storage_schema.answering import Answer, answering, redirecting, saying, sending

TABLE = "layers/conv3/weights.parquet"
SERVER = json.dumps({"server": "circuit-atlas", "version": "0.1.0", "api": 1}).encode()


@pytest.fixture
def local(location: Path) -> Objects:
    return open_store(location)


@contextmanager
def upstream(local: Objects, odd: Answer, *, path: str = TABLE) -> Iterator[str]:
    """The address of a server of an atlas that answers oddly when it is asked for an object."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        asked = unquote(request.path)
        if asked == "/api/server":
            sending(SERVER)(request)
            return
        kind, _, below = asked.removeprefix("/api/v1/").partition("/")
        if kind == "objects" and below == path:
            odd(request)
        elif kind == "objects" and local.exists(below):
            sending(local.get(below))(request)
        elif kind == "listing":
            objects = [asdict(entry) for entry in local.list(below)]
            sending(json.dumps({"objects": objects}).encode())(request)
        elif kind == "names":
            sending(json.dumps({"names": local.names(below)}).encode())(request)
        else:
            sending(b'{"error":{"kind":"not_found"}}', status=404)(request)

    with answering(answer) as address:
        yield address


def app_of(address: str, *, patience_s: float = PATIENCE_S, streams: int = 8) -> ASGIApp:
    atlas = Atlas(Reader(open_store(address, patience_s=patience_s)))
    return create_app(atlas, limits=Limits(streams=streams))


def fetched(address: str) -> httpx.Response:
    return httpx.get(f"{address}/api/v1/objects/{TABLE}", timeout=PATIENCE_S)


def in_turn(*answers: Answer) -> Answer:
    """The answers one after the other, the last one for ever."""
    left = list(answers)
    return lambda request: (left.pop(0) if len(left) > 1 else left[0])(request)


def of(body: bytes, etag: str, *, sent_bytes: int | None = None) -> Answer:
    """An answer that ends after some bytes."""
    headers = (("Content-Length", len(body)), ("ETag", f'"{etag}"'))
    return saying(*headers, body=body[:sent_bytes])


def dripping(request: BaseHTTPRequestHandler) -> None:
    saying(("Content-Length", 2**20))(request)
    while True:
        request.wfile.write(b"x" * 10)


@pytest.mark.parametrize(
    ("odd", "says"),
    [
        (saying(("Content-Length", 10**12), body=b"x" * 1000), "4,294,967,296 at most are read"),
        (saying(body=b"x" * 1000), "does not say how long its answer is"),
        (saying(("Content-Length", 10**13), body=b"x", status=500), "500 Internal Server Error"),
        (sending(b"<html>", status=404), "the server's answer is none of circuit-atlas'"),
        (redirecting("file:///etc/passwd"), "it redirects to what is no http:// address"),
    ],
)
def test_what_is_no_object_is_an_error(local: Objects, odd: Answer, says: str) -> None:
    with upstream(local, odd) as address, served(app_of(address, patience_s=0)) as again:
        answer = fetched(again)
        assert answer.status_code in (500, 503)
        assert says in answer.json()["error"]["message"]
        assert address not in answer.text
        # All else is as it was.
        assert httpx.get(f"{again}/api/v1/objects/atlas.json").content == local.get("atlas.json")


def test_another_server_is_asked_nothing(local: Objects) -> None:
    asked: list[str] = []

    def secret(request: BaseHTTPRequestHandler) -> None:
        asked.append(request.path)
        sending(b"secret")(request)

    with (
        answering(secret) as other,
        upstream(local, redirecting(f"{other}/secret")) as address,
        served(app_of(address, patience_s=0)) as again,
    ):
        answer = fetched(again)
    assert answer.status_code >= 500
    assert "no other server is asked" in answer.json()["error"]["message"]
    assert not asked


def test_an_object_that_comes_in_parts_is_asked_for_the_rest(local: Objects) -> None:
    body = bytes(range(256)) * 2**14
    cut = [of(body, "same", sent_bytes=size) for size in (10, 2**20 + 5, 3 * 2**20)]
    with (
        upstream(local, in_turn(*cut, of(body, "same"))) as address,
        served(app_of(address)) as again,
    ):
        answer = fetched(again)
    assert answer.content == body


@pytest.mark.parametrize("second", [of(b"y" * 2**22, "other"), of(b"x" * (2**22 + 1), "same")])
def test_an_object_that_is_another_one_meanwhile_ends_early(local: Objects, second: Answer) -> None:
    first = of(b"x" * 2**22, "same", sent_bytes=2**21)
    with (
        upstream(local, in_turn(first, second)) as address,
        served(app_of(address)) as again,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        fetched(again)


def test_who_drips_is_given_up(local: Objects, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "_UNHURRIED_S", 0.3)
    monkeypatch.setattr(pace, "_SLOWEST_BYTES_S", 2**30)
    with (
        upstream(local, dripping) as address,
        served(app_of(address, patience_s=0)) as again,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        fetched(again)


def test_connections_to_the_other_server_are_given_back(local: Objects) -> None:
    open_now, at_most = set[int](), [0]

    def counted(answer: Answer) -> Callable[[BaseHTTPRequestHandler], None]:
        def count(request: BaseHTTPRequestHandler) -> None:
            open_now.add(id(request))
            at_most[0] = max(at_most[0], len(open_now))
            try:
                answer(request)
            finally:
                open_now.discard(id(request))

        return count

    body = b"x" * 2**24
    with (
        upstream(local, counted(of(body, "same"))) as address,
        served(app_of(address, streams=1)) as again,
    ):
        url = f"{again}/api/v1/objects/{TABLE}"
        etag = httpx.head(url).headers["etag"]
        ask = partial(httpx.get, url, timeout=PATIENCE_S)
        for _ in range(3):
            assert ask(headers={"If-None-Match": etag}).status_code == 304
            assert httpx.head(url).headers["content-length"] == str(len(body))
            with httpx.stream("GET", url, timeout=PATIENCE_S) as begun:
                next(begun.iter_bytes())
            while (last := ask()).status_code == 503:  # the one before is still being sent
                continue
            assert last.content == body
    assert at_most[0] <= 2
    assert not open_now
