"""What every request passes first and every answer last: host, method, length, path, headers."""

from __future__ import annotations

import logging
import re
from urllib.parse import unquote_to_bytes

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from circuit_atlas.service.web.errors import error_response
from circuit_atlas.service.web.hosts import Hosts

_HEAD = "circuit_atlas.head"
_LOG = logging.getLogger(__name__)
# No inline script or style; nothing from elsewhere; images may also be made in the page.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "font-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)
# A slash or percent sign that is part of a name stays written so until the name is taken apart.
_STAYS = re.compile(rb"%(2[fF]|25)")
_TEXT = re.compile(r"[^\x00-\x1f\x7f]*")


class Guard:
    """Refuses what no endpoint answers, adds headers, and answers HEAD as GET without its body: an
    ASGI middleware."""

    def __init__(self, app: ASGIApp, *, url_bytes: int, hosts: Hosts) -> None:
        self.app = app
        self.url_bytes = url_bytes
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        head = scope["method"] == "HEAD"
        started = False

        async def out(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                present = {name.lower() for name, _ in message["headers"]}
                more = [(name, value) for name, value in _HEADERS if name not in present]
                message = {**message, "headers": [*message["headers"], *more]}
            elif head and message["type"] == "http.response.body":
                if message.get("more_body"):
                    return
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        raw: bytes = scope.get("raw_path") or scope["path"].encode()
        path = _path(raw)
        refusal = self._refusal(scope, len(raw))
        if refusal is None and path is None:
            refusal = error_response(
                400,
                "query",
                "the path is no UTF-8 text, or holds control characters: write each name in it "
                "percent-encoded",
            )
        if refusal is not None:
            await refusal(scope, receive, out)
            return
        try:
            await self.app({**scope, "method": "GET", "path": path, _HEAD: head}, receive, out)
        except Exception as error:
            if started:
                raise
            _LOG.exception("%s", path)
            fault = error_response(
                500, "internal", f"a fault of the server: {type(error).__name__}"
            )
            await fault(scope, receive, out)

    def _refusal(self, scope: Scope, path_bytes: int) -> Response | None:
        """Answer a request by another name, with a long address, or by another method; None for
        others."""
        for host in _hosts(scope):
            if not self.hosts.answers(host):
                return error_response(
                    403,
                    "query",
                    f"this server has no name {host[:80]!r}: ask by its address or as localhost, "
                    "or give the name to `circuit-atlas serve` with --allow-host",
                )
        if path_bytes + len(scope["query_string"]) > self.url_bytes:
            return error_response(
                414, "query", f"the address is longer than {self.url_bytes} bytes: ask for less"
            )
        if scope["method"] not in ("GET", "HEAD"):
            return error_response(
                405,
                "query",
                f"{scope['method'][:20]} is not answered: an atlas is read with GET and HEAD",
                {"Allow": "GET, HEAD"},
            )
        return None


def is_head(request: Request) -> bool:
    """Tell whether the headers alone are asked for."""
    return bool(request.scope.get(_HEAD))


def segment(text: str) -> str:
    """Read a name out of a path that `Guard` let through.

    >>> segment("a%2Fb"), segment("50%25")
    ('a/b', '50%')
    """
    return text.replace("%2F", "/").replace("%25", "%")


def _hosts(scope: Scope) -> list[str]:
    """List the `Host` headers of a request; one empty one where it has none."""
    hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
    return hosts or [""]


def _path(raw: bytes) -> str | None:
    """Decode the path to route by once, but for `%2F` and `%25`; None where it is no text."""
    pieces = _STAYS.split(raw.partition(b"?")[0])
    # `split` with a group alternates what lies between and what the group matched.
    decoded = b"".join(
        b"%" + piece.upper() if number % 2 else unquote_to_bytes(piece)
        for number, piece in enumerate(pieces)
    )
    try:
        text = decoded.decode()
    except UnicodeDecodeError:
        return None
    return text if _TEXT.fullmatch(text) else None
