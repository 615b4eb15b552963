"""Small servers that answer every request in one way."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Answer = Callable[[BaseHTTPRequestHandler], None]


def _say_nothing(*given: object) -> None:
    del given


@contextmanager
def answering(
    answer: Answer, *, host: str = "127.0.0.1", certificate: Path | None = None
) -> Iterator[str]:
    """A server that answers anything in one way; by `https://` with a certificate and its key."""

    def answered(request: BaseHTTPRequestHandler) -> None:
        # Of a client that has heard enough.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            answer(request)

    methods = {"do_GET": answered, "do_HEAD": answered, "log_message": _say_nothing}
    handler = type("Handler", (BaseHTTPRequestHandler,), methods)
    server = _Server((host, 0), handler)
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        named = f"[{host}]" if ":" in host else host
        yield f"http://{named}:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)


def sending(body: bytes, *, status: int = 200, cut: int = 0) -> Answer:
    """An answer, of which the last `cut` bytes are not sent."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) - cut])

    return answer


def saying(*headers: tuple[str, object], body: bytes = b"", status: int = 200) -> Answer:
    """An answer with headers of any kind."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers:
            request.send_header(name, str(value))
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirecting(to: str) -> Answer:
    """An answer that sends on to another address, each time with a longer path."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        saying(("Location", to or f"{request.path}x"), ("Content-Length", 0), status=302)(request)

    return answer
