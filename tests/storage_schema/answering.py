"""Small servers that answer every request in one way."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _say_nothing(*given: object) -> None:
    del given


@contextmanager
def answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """A server that answers anything in one way."""

    def answered(request: BaseHTTPRequestHandler) -> None:
        # Of a client that has heard enough.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            answer(request)

    methods = {"do_GET": answered, "do_HEAD": answered, "log_message": _say_nothing}
    handler = type("Handler", (BaseHTTPRequestHandler,), methods)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def sending(body: bytes, *, status: int = 200, cut: int = 0) -> Callable[..., None]:
    """An answer, of which the last `cut` bytes are not sent."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body[: len(body) - cut])

    return answer
