"""An S3 of our own that misbehaves when it is told to: answers get lost, are cut, late, or errors.

It speaks as much of S3 as an atlas needs, over real sockets on this machine, and keeps its objects
in memory. Which requests go wrong is drawn by a seed.

    with flaky_store(seed=1) as store, store.environment():
        store.faults = Faults(rate=0.1)
        build(spec at store.location)
        with store.out():
            ...
"""

from __future__ import annotations

import hashlib
import random
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal, get_args
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree
from xml.sax.saxutils import escape

import pytest

Fault = Literal[
    "lost", "lost_500", "reset", "busy", "error", "slow_down", "slow", "truncated", "short"
]
"""What may go wrong with a request.

- `lost`: it is carried out, and the connection is reset before the answer.
- `lost_500`: it is carried out, and answered with 500.
- `reset`: the connection is reset before anything is done.
- `busy`, `error`, `slow_down`: 429, 500, 503, and nothing is done.
- `slow`: it is answered late.
- `truncated`: the connection ends after half of the body, of which the whole length was told.
- `short`: the length that is told is less than that of the body, so that a part seems whole.
"""
Outage = Literal["reset", "slow_down", "denied", "silent"]
"""What all requests meet as long as the store is out: the same, 403, or no answer until it is back.
"""
FAULTS: tuple[Fault, ...] = get_args(Fault)
_STATUSES = {"busy": 429, "error": 500, "slow_down": 503}
_BUCKET = "bucket"
_PAGE = 1000


@dataclass(frozen=True)
class Faults:
    """How often a request goes wrong, and in which ways, each as often."""

    rate: float = 0.0
    kinds: tuple[Fault, ...] = FAULTS
    slow_s: float = 0.3


@dataclass(frozen=True)
class Stored:
    """An object."""

    data: bytes
    modified_s: float

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.data, usedforsecurity=False).hexdigest()}"'


class FlakyStore:
    """What the server keeps, and what it is told to do.

    Attributes:
        location: of an atlas in it.
        objects: by key, from the bucket's root.
        faults: what goes wrong from now on.
        first: what goes wrong with the next requests, one each, before any is drawn.
        requests: how many came, by method; those in an outage aside.
        failed: how many of them went wrong, by fault.
        refused: how many came while it was out.
    """

    location = f"s3://{_BUCKET}/atlas"

    def __init__(self, seed: int) -> None:
        self.objects: dict[str, Stored] = {}
        self.faults = Faults()
        self.first: list[Fault] = []
        self.requests: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.refused = 0
        self.address = ""
        self.lock = threading.Lock()
        self.returned = threading.Event()
        self._random = random.Random(seed)
        self._is_out: Outage | Literal[""] = ""

    def drawn(self, method: str) -> Fault | Outage | Literal[""]:
        """What goes wrong with the next request; empty for nothing."""
        with self.lock:
            if self._is_out:
                self.refused += 1
                return self._is_out
            self.requests[method] += 1
            if self.first:
                fault = self.first.pop(0)
            elif self._random.random() < self.faults.rate:
                fault = self._random.choice(self.faults.kinds)
            else:
                return ""
            self.failed[fault] += 1
            return fault

    def part(self, size: int) -> int:
        """How much of so many bytes a short answer tells of."""
        with self.lock:
            return self._random.randrange(size) if size else 0

    def go_out(self, how: Outage = "reset") -> None:
        """Answers nothing from now on but this."""
        self.returned.clear()
        self._is_out = how

    def come_back(self) -> None:
        """Answers again."""
        self._is_out = ""
        self.returned.set()

    @contextmanager
    def out(self, how: Outage = "reset") -> Iterator[None]:
        """Is out inside the block."""
        self.go_out(how)
        try:
            yield
        finally:
            self.come_back()

    def carry_out(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[int, bytes, dict[str, str]]:
        """Does what a request asks for: its status, body and headers."""
        parts = urlsplit(path)
        query = {name: values[0] for name, values in parse_qs(parts.query, True).items()}
        bucket, _, key = unquote(parts.path).lstrip("/").partition("/")
        if bucket != _BUCKET:
            return 404, _error("NoSuchBucket"), {}
        with self.lock:
            if not key and "list-type" in query:
                return 200, _listing(self.objects, query), {}
            if not key and "delete" in query:
                return 200, self._delete(body), {}
            if method == "PUT":
                return self._put(key, body, only_absent=headers.get("If-None-Match") == "*")
            if method == "DELETE":
                self.objects.pop(key, None)
                return 204, b"", {}
            return self._get(key, headers.get("Range", ""))

    def _put(
        self, key: str, data: bytes, *, only_absent: bool
    ) -> tuple[int, bytes, dict[str, str]]:
        if only_absent and key in self.objects:
            return 412, _error("PreconditionFailed"), {}
        self.objects[key] = Stored(data, time.time())
        return 200, b"", {"ETag": self.objects[key].etag}

    def _get(self, key: str, stretch: str) -> tuple[int, bytes, dict[str, str]]:
        stored = self.objects.get(key)
        if stored is None:
            return 404, _error("NoSuchKey"), {}
        modified = formatdate(stored.modified_s, usegmt=True)
        headers = {"ETag": stored.etag, "Last-Modified": modified}
        data, size = stored.data, len(stored.data)
        if not stretch:
            return 200, data, headers
        start, _, end = stretch.removeprefix("bytes=").partition("-")
        first = int(start) if start else max(0, size - int(end))
        last = min(int(end), size - 1) if start and end else size - 1
        if first >= size:
            return 416, _error("InvalidRange"), {}
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return 206, data[first : last + 1], headers

    def _delete(self, body: bytes) -> bytes:
        elements = ElementTree.fromstring(body).iter()
        keys = [element.text or "" for element in elements if element.tag.endswith("Key")]
        for key in keys:
            self.objects.pop(key, None)
        deleted = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return f"<DeleteResult>{deleted}</DeleteResult>".encode()

    @property
    def variables(self) -> dict[str, str]:
        """What the environment of those who talk to it has to be."""
        return {
            "AWS_ENDPOINT": self.address,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "id",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }

    @contextmanager
    def environment(self) -> Iterator[None]:
        """Sets them for this process inside the block."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.variables.items():
                patch.setenv(name, value)
            yield


@contextmanager
def flaky_store(*, seed: int = 0) -> Iterator[FlakyStore]:
    """A store that is empty and faultless, until the block ends."""
    store = FlakyStore(seed)
    methods = {f"do_{name}": _Handler.serve for name in ("GET", "HEAD", "PUT", "DELETE", "POST")}
    handler = type("Handler", (_Handler,), {"store": store, **methods})
    server = _Server(("127.0.0.1", 0), handler)
    store.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def shutdown_request(self, request: object) -> None:
        """Closes without a farewell, so that a reset is one."""
        self.close_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Says nothing of clients that hang up."""


class _Handler(BaseHTTPRequestHandler):
    store: FlakyStore
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        del format, args

    def serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.store.drawn(self.command)
        if fault == "reset":
            self._reset()
        elif fault == "silent":
            self.store.returned.wait()
            self._reset()
        elif fault == "denied":
            self._answer(403, _error("AccessDenied"))
        elif fault in _STATUSES:
            self._answer(_STATUSES[fault], _error("SlowDown"))
        else:
            if fault == "slow":
                time.sleep(self.store.faults.slow_s)
            status, data, headers = self.store.carry_out(
                self.command, self.path, self.headers, body
            )
            if fault == "lost":
                self._reset()
            elif fault == "lost_500":
                self._answer(500, _error("InternalError"))
            else:
                if fault == "short" and data:
                    headers["Content-Length"] = str(self.store.part(len(data)))
                self._answer(status, data, headers, cut=fault == "truncated")

    def _answer(
        self, status: int, data: bytes, headers: dict[str, str] | None = None, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 204 and "Content-Length" not in (headers or {}):
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data[: len(data) // 2] if cut else data)
        self.wfile.flush()
        if cut or "Content-Length" in (headers or {}):
            self.close_connection = True

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True


def _error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()


def _listing(objects: dict[str, Stored], query: dict[str, str]) -> bytes:
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", query.get("start-after", ""))
    contents: list[str] = []
    folders: dict[str, None] = {}
    token = last = ""
    for key in sorted(objects):
        if not key.startswith(prefix) or key <= after:
            continue
        if len(contents) + len(folders) >= _PAGE:
            token = f"<NextContinuationToken>{escape(last)}</NextContinuationToken>"
            break
        last = key
        inside = key[len(prefix) :]
        if delimiter and delimiter in inside:
            folders[prefix + inside.partition(delimiter)[0] + delimiter] = None
            continue
        stored = objects[key]
        modified = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.modified_s))
        contents.append(
            f"<Contents><Key>{escape(key)}</Key><LastModified>{modified}</LastModified>"
            f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.data)}</Size></Contents>"
        )
    common = "".join(
        f"<CommonPrefixes><Prefix>{escape(folder)}</Prefix></CommonPrefixes>" for folder in folders
    )
    return (
        f"<ListBucketResult><Name>{_BUCKET}</Name><Prefix>{escape(prefix)}</Prefix>"
        f"<KeyCount>{len(contents) + len(folders)}</KeyCount><MaxKeys>{_PAGE}</MaxKeys>"
        f"<IsTruncated>{str(bool(token)).lower()}</IsTruncated>{token}"
        f"{''.join(contents)}{common}</ListBucketResult>"
    ).encode()
