"""Objects at a web server, by their paths below an address: what is asked, and which answers count.

obstore, which reads from all other stores, takes as much memory for an answer as its header says
and ends the process where there is not as much, and follows redirects wherever they lead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from urllib3 import BaseHTTPResponse, HTTPResponse

from circuit_atlas.storage_schema.answer_errors import (
    MissingObjectError,
    StatusError,
    TooLongError,
    UnusableAnswerError,
    WholeObjectsError,
)
from circuit_atlas.storage_schema.http_address import HttpAddress
from circuit_atlas.storage_schema.http_connections import ERROR_BYTES, HttpConnections, told

_PIECE_BYTES = 2**20
_REDIRECTS = 5
_NUMBER = re.compile(r"[0-9]{1,19}")
_RANGE = re.compile(r"bytes ([0-9]{1,19})-([0-9]{1,19})/([0-9]{1,19}|\*)")


class HttpClient:
    """Reads objects below an address. Safe to share between threads, to pickle, and to take into a
    process that is forked: each process opens connections of its own.

    Attributes:
        address: what all paths begin with.
    """

    def __init__(
        self,
        address: HttpAddress,
        *,
        other_hosts: bool = False,
        connections: HttpConnections | None = None,
    ) -> None:
        """Nothing is asked yet.

        Args:
            address: what all paths begin with.
            other_hosts: whether redirects to other hosts are followed.
            connections: to ask through. Default: new ones.
        """
        self.address = address
        self._other_hosts = other_hosts
        self._connections = connections or HttpConnections()

    def __repr__(self) -> str:
        return f"<HttpClient {self.address.url}>"

    def below(self, path: str) -> HttpClient:
        """Return one for what lies below a path, which asks through the same connections."""
        return HttpClient(
            self.address.below(path),
            other_hosts=self._other_hosts,
            connections=self._connections,
        )

    def get(self, path: str, *, most_bytes: int | None = None) -> tuple[bytes, str | None]:
        """Return an object's bytes and its ETag, None where nobody says it.

        Raises:
            MissingObjectError: there is none.
            TooLongError: it has more than `most_bytes`, before they are read.
            ConnectionError, TimeoutError: no answer, or a part, or it comes too slowly.
            StatusError: the server refuses.
            UnusableAnswerError: the answer does not give its length before, or is none.
        """
        with self.opened(path, most_bytes=most_bytes) as answer:
            return b"".join(answer.pieces()), answer.etag

    def get_range(self, path: str, *, start: int, size_bytes: int) -> bytes:
        """Return a stretch of an object's bytes, which is shorter where the object ends in it;
        errors as of `get`, and WholeObjectsError where the server sends the whole."""
        asked = {"Range": f"bytes={start}-{start + size_bytes - 1}"}
        with self._asked("GET", path, asked) as response:
            size_bytes = _range_size(response, start, most_bytes=size_bytes)
            return b"".join(HttpAnswer(response, size_bytes).pieces())

    def head(self, path: str) -> HttpAnswer:
        """Return what the server says of an object; errors as of `get`."""
        with self._asked("HEAD", path, {}) as response:
            return HttpAnswer(response, _size(response))

    @contextmanager
    def opened(self, path: str, *, most_bytes: int | None = None) -> Iterator[HttpAnswer]:
        """Give an object that is about to be read, to be left when it is; errors as of `get`."""
        with self._asked("GET", path, {}) as response:
            size_bytes = _size(response)
            if response.status != 200:
                raise UnusableAnswerError("it sends a part, where the whole was asked for")
            if most_bytes is not None and size_bytes > most_bytes:
                raise TooLongError(size_bytes)
            yield HttpAnswer(response, size_bytes)

    @contextmanager
    def _asked(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> Iterator[BaseHTTPResponse]:
        """Give the answer that redirects lead to, if it is one of success."""
        address = self.address.below(path)
        for _ in range(_REDIRECTS + 1):
            response = self._connections.ask(method, address, headers)
            try:
                if response.status in (200, 206):
                    yield response
                    return
                _check(response, method)
                address = self._next(address, response)
            finally:
                _leave(response)
        raise UnusableAnswerError("it redirects without end")

    def _next(self, address: HttpAddress, response: BaseHTTPResponse) -> HttpAddress:
        """Where a redirect leads; UnusableAnswerError where it is not followed."""
        try:
            target = address.next(response.headers.get("Location", ""))
        except ValueError:
            raise UnusableAnswerError("it redirects to what is no http:// address") from None
        if address.sends_on_to(target):
            return target
        if not self._other_hosts:
            raise UnusableAnswerError(
                f"it redirects to {target.origin}, and no other server is asked than the one that "
                "was named: give that address if you trust it"
            )
        if address.scheme == "https" and target.scheme == "http":
            raise UnusableAnswerError(
                f"it redirects from https:// to {target.origin}, which is not followed"
            )
        return target


class HttpAnswer:
    """An object that is about to be read.

    Attributes:
        size_bytes: what is still to be read.
        etag: another one where the object was written anew; None where nobody says it.
        modified: when it was written, as the server puts it.
    """

    def __init__(self, response: BaseHTTPResponse, size_bytes: int) -> None:
        self._response = response
        self.size_bytes = size_bytes
        self.etag = response.headers.get("ETag")
        self.modified = response.headers.get("Last-Modified")

    def pieces(self) -> Iterator[bytes]:
        """Yield its bytes, a megabyte at a time; errors as of `HttpClient.get`."""
        while self.size_bytes:
            with told(begun=True):
                piece = self._response.read(
                    min(self.size_bytes, _PIECE_BYTES), decode_content=False
                )
            self.size_bytes -= len(piece)
            yield piece


def _check(response: BaseHTTPResponse, method: str) -> None:
    """Raise the error that an answer is; none of a redirect."""
    if response.status == 404 and method == "HEAD":
        raise MissingObjectError(None)
    if response.status == 404:
        with told(begun=True):
            said = response.read(ERROR_BYTES, decode_content=False)
        raise MissingObjectError(said)
    if not response.get_redirect_location():
        raise StatusError(response.status)


def _leave(response: BaseHTTPResponse) -> None:
    """Keep the connection for the next question where the answer was read to its end; else close
    it."""
    if isinstance(response, HTTPResponse) and not response.closed:
        if response.length_remaining == 0:
            response.drain_conn()  # there is nothing, which nobody has looked at yet
        else:
            response.close()
    response.release_conn()


def _size(response: BaseHTTPResponse) -> int:
    """How many bytes an answer has. That it ends with its connection would not tell a whole."""
    said = response.headers.get("Content-Length", "")
    if "Transfer-Encoding" in response.headers or not _NUMBER.fullmatch(said):
        raise UnusableAnswerError("it does not say how long its answer is: see what answers there")
    return int(said)


def _range_size(response: BaseHTTPResponse, start: int, *, most_bytes: int) -> int:
    """How many bytes of the range that was asked for come."""
    if response.status != 206:
        raise WholeObjectsError("it sends the whole, where a part was asked for")
    size_bytes = _size(response)
    said = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    is_asked = said is not None and int(said[1]) == start and size_bytes <= most_bytes
    if said is None or not is_asked or int(said[2]) - start + 1 != size_bytes:
        raise UnusableAnswerError("it sends another part than was asked for")
    return size_bytes
