"""A web server of files, which counts what it sends and can be told to fail."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class WebFiles:
    """What a server at an address has, and what it was asked for.

    Attributes:
        url: its address.
        files: what each path holds.
        status: what it says of some paths in place of what they hold.
        asked: the path and the range of each request for bytes.
        ranges: whether it sends parts of files.
    """

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    asked: list[tuple[str, tuple[int, int]]] = field(default_factory=list)
    ranges: bool = True


@contextmanager
def web_files(files: dict[str, bytes]) -> Iterator[WebFiles]:
    """Serves files over HTTP for as long as it is entered."""
    served = WebFiles(files=files)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(send=True)

        def do_HEAD(self) -> None:
            self._answer(send=False)

        def _answer(self, *, send: bool) -> None:
            data = served.files.get(self.path)
            status = served.status.get(self.path, 404 if data is None else 200)
            if status >= 400 or data is None:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            asked = re.fullmatch(
                r"bytes=(\d+)-(\d+)", self.headers.get("Range", "") * served.ranges
            )
            first, last = (int(asked[1]), int(asked[2])) if asked else (0, len(data) - 1)
            last = min(last, len(data) - 1)
            if send:
                served.asked.append((self.path, (first, last + 1)))
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(last + 1 - first))
            self.send_header("ETag", f'"{hash(data)}"')
            if asked:
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
            self.end_headers()
            if send:
                self.wfile.write(data[first : last + 1])

        def log_message(self, *args: object) -> None:
            del args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
