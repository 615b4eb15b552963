"""Connections to web servers, which are kept open between questions and believed little.

All that comes through one is counted: a server may drip bytes, or send headers, interim answers or
chunks without end. Each process has its own connections: one that was forked off another opens
anew.
"""

from __future__ import annotations

import io
import ipaddress
import os
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException, HTTPResponse
from typing import Any

from urllib3 import (
    BaseHTTPResponse,
    HTTPConnectionPool,
    HTTPSConnectionPool,
    PoolManager,
    ProxyManager,
    Timeout,
)
from urllib3 import exceptions as broken
from urllib3.connection import HTTPConnection, HTTPSConnection

from circuit_atlas.storage_schema.answer_errors import UnusableAnswerError
from circuit_atlas.storage_schema.http_address import HttpAddress, basic
from circuit_atlas.storage_schema.pace import Pace, SlowError
from circuit_atlas.storage_schema.wording import in_words

ERROR_BYTES = 2**12
"""What is read at most of an answer that is an error."""

_CONNECT_S = 5
_READ_S = 30
# Threads of one process that ask at once without closing what they opened.
_KEPT = 64
_HEAD_BYTES = 2**18
_BUFFERED_BYTES = 2**16
_SEE = "see whether the server runs and can be reached"


class HttpConnections:
    """Asks web servers. Safe to share between threads and to take into a process that is forked.

    Once a public host has answered, none is connected to that is private: neither a redirect nor
    what a name is said to stand for leads from a stranger's server into the network of its readers.
    """

    def __init__(self) -> None:
        self._opened: tuple[int, dict[str, PoolManager]] = (0, {})
        self._public = False

    def __reduce__(self) -> tuple[type[HttpConnections], tuple[()]]:
        return HttpConnections, ()

    def ask(
        self, method: str, address: HttpAddress, headers: Mapping[str, str]
    ) -> BaseHTTPResponse:
        """Return the answer to one question, whose body is yet to be read; redirects are answers.

        Raises:
            ConnectionError, TimeoutError: there is none, or it comes too slowly.
            UnusableAnswerError: it is no HTTP, its certificate does not hold, or the host may not
                be connected to.
        """
        sent = {"Accept-Encoding": "identity", "User-Agent": "circuit-atlas", **headers}
        if address.login is not None:
            sent["Authorization"] = basic(address.login)
        for again in (True, False):
            try:
                with told():
                    return self._manager(address).urlopen(
                        method,
                        address.url,
                        headers=sent,
                        redirect=False,
                        retries=False,
                        preload_content=False,
                        decode_content=False,
                        timeout=Timeout(connect=_CONNECT_S, read=_READ_S),
                    )
            except _ClosedError:
                # A connection that was kept open may be closed just as it is asked.
                if not again:
                    raise
        raise AssertionError  # for the type check alone

    def _manager(self, address: HttpAddress) -> PoolManager:
        process, managers = self._opened
        if process != os.getpid():
            managers = {}
            self._opened = os.getpid(), managers
        manager = managers.get(address.origin)
        return manager or managers.setdefault(address.origin, self._new_manager(address))

    def _new_manager(self, address: HttpAddress) -> PoolManager:
        try:
            proxy = address.proxy()
        except ValueError as error:
            raise UnusableAnswerError(str(error)) from None
        if proxy is None:
            manager = PoolManager(maxsize=_KEPT)
        else:
            headers = {"Proxy-Authorization": basic(proxy.login)} if proxy.login else None
            manager = ProxyManager(proxy.url, proxy_headers=headers, maxsize=_KEPT)
        manager.pool_classes_by_scheme = _pools(self)
        return manager

    def check_peer(self, connection: HTTPConnection) -> None:
        """Raise UnusableAnswerError where a connection may not be used."""
        if connection.proxy is not None or connection.sock is None:
            return
        name = connection.sock.getpeername()[0]
        if _is_public(name):
            self._public = True
        elif self._public:
            raise UnusableAnswerError(
                f"a public server sends on to {connection.host} at {name}, which is a private "
                "address and is not asked"
            )


def _is_public(name: str) -> bool:
    """Whether an address is one of the whole internet."""
    peer = ipaddress.ip_address(name.partition("%")[0])
    mapped = peer.ipv4_mapped if isinstance(peer, ipaddress.IPv6Address) else None
    return (mapped or peer).is_global


def _pools(connections: HttpConnections) -> dict[str, Any]:
    """The kinds of pools whose connections are counted and checked, by scheme."""

    class Plain(HTTPConnection):
        response_class = _CountedResponse

        def connect(self) -> None:
            super().connect()
            connections.check_peer(self)

    class Secure(HTTPSConnection):
        response_class = _CountedResponse

        def connect(self) -> None:
            super().connect()
            connections.check_peer(self)

    class PlainPool(HTTPConnectionPool):
        ConnectionCls = Plain

    class SecurePool(HTTPSConnectionPool):
        ConnectionCls = Secure

    return {"http": PlainPool, "https": SecurePool}


class _Wire(io.RawIOBase):
    """Reads what comes through a socket, as much and as slowly as is allowed."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw
        self._pace = Pace()
        self._left_bytes = _HEAD_BYTES

    def allow(self, size_bytes: int) -> None:
        """Begin to count anew, up to so many bytes."""
        self._left_bytes = size_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        began_s = time.monotonic()
        size_bytes = self._raw.readinto(buffer)
        self._pace.note(size_bytes=size_bytes or 0, since_s=began_s)
        self._left_bytes -= size_bytes or 0
        if self._left_bytes < 0:
            raise _EndlessError
        return size_bytes

    def close(self) -> None:
        try:
            super().close()
        finally:
            self._raw.close()


class _CountedResponse(HTTPResponse):
    """An answer that is read through such a wire."""

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        buffered: Any = self.fp
        self._wire = _Wire(buffered.detach())
        self.fp = io.BufferedReader(self._wire)

    def begin(self) -> None:
        super().begin()
        # Of the body whoever reads it says how much; beside it there are the frames of chunks.
        is_body = 200 <= self.status < 300 and self.length is not None
        self._wire.allow((self.length or 0 if is_body else ERROR_BYTES) + _BUFFERED_BYTES)


class _EndlessError(HTTPException):
    """More came than any answer has."""


class _ClosedError(ConnectionError):
    """A connection was closed before anything was answered."""


@contextmanager
def told(*, begun: bool = False) -> Iterator[None]:
    """Turn what goes wrong in an answer, of which there is some already if it has begun, into
    errors of ours; see `HttpConnections.ask`."""
    try:
        yield
    except UnusableAnswerError:
        raise
    except (broken.HTTPError, HTTPException, OSError) as error:
        raise _in_our_words(error, begun=begun) from error


def _in_our_words(error: Exception, *, begun: bool) -> OSError:
    inside = error.__cause__ or next((e for e in error.args if isinstance(e, Exception)), error)
    if isinstance(inside, UnusableAnswerError | SlowError):
        return inside
    if isinstance(error, broken.SSLError):
        return _tls_error(inside)
    if isinstance(error, broken.NameResolutionError):
        return ConnectionError(f"no answer (nobody knows its name): {_SEE}")
    if isinstance(error, broken.NewConnectionError):
        return ConnectionError(f"no answer ({in_words(inside)}): {_SEE}")
    if isinstance(error, broken.ProxyError):
        why = in_words(inside.__cause__ or inside)
        return ConnectionError(f"no answer through the proxy ({why}): {_SEE}")
    if isinstance(error, broken.ConnectTimeoutError):
        return TimeoutError(f"no connection within {_CONNECT_S} s: {_SEE}")
    if isinstance(error, broken.ReadTimeoutError):
        return TimeoutError(f"no {'more' if begun else 'answer'} within {_READ_S} s: {_SEE}")
    if begun:
        return ConnectionError(f"its answer ends too early: {_SEE}")
    if isinstance(inside, OSError):
        return _ClosedError(f"no answer (it closes the connection): {_SEE}")
    return UnusableAnswerError("its answer is no HTTP: see what answers there")


def _tls_error(error: BaseException) -> OSError:
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnusableAnswerError(f"its certificate does not hold: {error.verify_message}")
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return _ClosedError(f"no answer (it closes the connection): {_SEE}")
    return UnusableAnswerError(f"it does not answer by https:// ({in_words(error)})")
