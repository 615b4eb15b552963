"""An atlas opened by the address of a server that means harm: an error of ours, soon, within
bounds of memory."""

from __future__ import annotations

import gzip
import json
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from itertools import count

import pytest

from circuit_atlas.storage_schema import http_connections, http_objects, pace
from circuit_atlas.storage_schema.errors import AtlasError, CorruptError, StoreError
from circuit_atlas.storage_schema.http_objects import HttpObjects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.patience import Patience
from tests.fuzz.watch import resident_bytes
from tests.storage_schema.answering import Answer, answering, redirecting, saying, sending

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone tells of memory")

SOON_S = 5.0
MOST_BYTES = 1 << 28
OURS = b'{"server": "circuit-atlas", "version": "0.1.0", "api": 1}'
TABLE = "layers/conv/weights.parquet"


def without_end(*headers: tuple[str, object], pause_s: float = 0, piece: bytes = b"x") -> Answer:
    """An answer that goes on for as long as anybody listens."""
    begin = saying(*headers)

    def answer(request: BaseHTTPRequestHandler) -> None:
        begin(request)
        while True:
            request.wfile.write(piece)
            time.sleep(pause_s)

    return answer


def opened(address: str) -> HttpObjects:
    """Asks each question once."""
    return HttpObjects(address, patience=Patience(0))


LONG = b"x" * 2**16
HOSTILE = {
    "more than there is memory": saying(("Content-Length", 10**12), body=LONG),
    "more than can be counted": saying(("Content-Length", 2**63), body=LONG),
    "a negative length": saying(("Content-Length", -1), body=LONG),
    "no length": without_end(piece=LONG),
    "chunks without end": without_end(
        ("Transfer-Encoding", "chunked"), piece=b"10000\r\n" + LONG + b"\r\n"
    ),
    "a terabyte": without_end(("Content-Length", 10**12), piece=LONG),
    "less than it says": saying(("Content-Length", 2**20), body=LONG),
    "a byte at a time": without_end(("Content-Length", 2**20), pause_s=0.02),
    "headers without end": without_end(("X", "y"), piece=b"X-More: " + LONG + b"\r\n"),
    "redirects in a loop": redirecting(""),
    "to a file": redirecting("file:///etc/hostname"),
    "to another scheme": redirecting("ftp://127.0.0.1/atlas.json"),
    "to nowhere": redirecting("http://127.0.0.1:1/atlas.json"),
    "an error at each": saying(("Content-Length", 9), body=b"not today", status=500),
    "a packed bomb": sending(gzip.compress(bytes(2**26), 1)),
    "deep": sending(b'{"objects": ' + b"[" * 2**22),
    "wide": sending(b'{"names": [], "objects": [], "more": [' + b"[]," * 2**22 + b"[]]}"),
}


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can wait for."""
    monkeypatch.setattr(pace, "_UNHURRIED_S", 0.5)
    monkeypatch.setattr(http_connections, "_READ_S", 1)
    monkeypatch.setattr(http_objects, "_OPENING_S", 0)


def refused(ask: Callable[[], object]) -> AtlasError:
    """The error that a question ends in, within bounds of time and memory."""
    before, began_s = resident_bytes(reset=True), time.monotonic()
    with pytest.raises(AtlasError) as caught:
        ask()
    assert time.monotonic() - began_s < SOON_S
    assert resident_bytes() - before < MOST_BYTES
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("way", HOSTILE)
def test_each_question_ends_in_an_error(way: str) -> None:
    with answering(HOSTILE[way]) as address:
        assert address in str(refused(lambda: open_store(address)))
        found = opened(address)
        # Bytes alone do not tell whether they are a table; their digest does, elsewhere.
        if way not in ("a packed bomb", "deep", "wide"):
            refused(lambda: found.get(TABLE))
            refused(lambda: found.get("atlas.json"))
        if way != "wide":
            refused(lambda: found.list("layers"))
            refused(lambda: found.names("layers"))


def test_what_is_packed_is_not_unpacked() -> None:
    packed = gzip.compress(OURS)
    answer = saying(("Content-Encoding", "gzip"), ("Content-Length", len(packed)), body=packed)
    with answering(answer) as address:
        assert opened(address).get(TABLE) == packed


@pytest.mark.usefixtures("hurried")
def test_who_is_slow_is_told_of() -> None:
    with answering(HOSTILE["a byte at a time"]) as address:
        said = str(refused(lambda: opened(address).get(TABLE)))
    assert "less than 1,024 bytes a second came, for" in said


def test_a_longer_object_than_any_is_not_begun() -> None:
    with answering(HOSTILE["a terabyte"]) as address:
        found = opened(address)
        assert "sends 1,000,000,000,000 bytes, and 4,294,967,296 at most" in str(
            refused(lambda: found.get(TABLE))
        )
        assert isinstance(refused(lambda: found.get("atlas.json")), CorruptError)


def test_folders_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_objects, "_LISTED", 100)
    numbers = count()

    def answer(request: BaseHTTPRequestHandler) -> None:
        folder = request.path.partition("/listing/")[2]
        folders = [f"{folder}/{next(numbers)}" for _ in range(2)]
        sending(json.dumps({"objects": [], "folders": folders}).encode())(request)

    with answering(answer) as address:
        found = opened(address)
        said = str(refused(lambda: found.list("layers/conv/arrays.zarr")))
        assert "the server lists more than 100 objects and folders" in said
        # Of others than an atlas has none is asked for.
        assert isinstance(refused(lambda: found.list("elsewhere")), StoreError)


def test_another_host_is_asked_nothing_that_is_shown() -> None:
    secret = b'{"password": "of another host"}'
    with answering(sending(secret)) as other, answering(redirecting(f"{other}/x")) as address:
        assert "of another host" not in str(refused(lambda: open_store(address)))
        said = str(refused(lambda: opened(address).list("layers")))
        assert "of another host" not in said


def test_stretches_are_cut_from_the_whole() -> None:
    with answering(sending(b"hello world")) as address:
        assert opened(address).get_ranges(TABLE, [(6, 5), (0, 1), (9, 9)]) == [
            b"world",
            b"h",
            b"ld",
        ]


def test_a_part_that_nobody_asked_for_is_no_object() -> None:
    answer = saying(
        ("Content-Range", "bytes 5-10/11"), ("Content-Length", 6), body=b" world", status=206
    )
    with answering(answer) as address:
        assert "sends a part" in str(refused(lambda: opened(address).get(TABLE)))
