"""A server of one atlas: the address it listens at, and its life."""

from __future__ import annotations

import logging
import os
import socket
import webbrowser
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.web.hosts import Hosts
from circuit_atlas.storage_schema.errors import InputError
from circuit_atlas.storage_schema.wording import in_words

if TYPE_CHECKING:
    from types import FrameType

    import uvicorn
    from fastapi import FastAPI

_CONNECTIONS = 512
# For answers that are being sent when it is told to stop.
_GRACE_S = 1


def serve(
    atlas: str | Path,
    *,
    host: str,
    port: int,
    on_start: Callable[[str], None] | None = None,
    open_browser: bool = False,
    allow_hosts: Sequence[str] = (),
) -> None:
    """Serve an atlas until the process is told to stop.

    Args:
        atlas: its folder or URL.
        host: name or address to listen at; `127.0.0.1` is heard by this machine alone.
        port: 0 for a free one.
        on_start: called with the address, once it can be asked.
        open_browser: show it in a browser.
        allow_hosts: names that it answers to besides `host`, `localhost` and addresses. Heard by
            this machine alone, or given names, it answers to no others: a page of another site
            could else read it through the browser.

    Raises:
        InputError: the port is taken, or host and port cannot be listened at.
        StoreError: there is no atlas.
        ModuleNotFoundError: the extra `serve` is not installed.
        KeyboardInterrupt: after Ctrl-C, when everything is closed.
    """
    # Before the socket: where a package or the atlas is missing, no port is to blame.
    make_app = _app(atlas)
    listening = listen(host, port)
    address = _address(host, listening)
    app = make_app(hosts=Hosts.of(host, listening.getsockname()[0], allowed=allow_hosts))

    def started() -> None:
        if on_start is not None:
            on_start(address)
        if open_browser:
            webbrowser.open(address)

    _server(app, started).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Open a socket that listens; InputError where the port is taken or there is no such host."""
    try:
        family, kind, protocol, _, bound_to = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise InputError(
            f"cannot listen at {host!r}, port {port}: {_reason(error)}; give a name or address "
            "of this machine, such as 127.0.0.1"
        ) from error
    try:
        if os.name == "posix":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(bound_to)
        listening.listen()
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen at {host}, port {port}: {_reason(error)}; choose another with "
            "--port, or --port 0 for a free one"
        ) from error
    return listening


def _reason(error: Exception) -> str:
    words = error.strerror if isinstance(error, socket.gaierror) else in_words(error)
    text = str(words)
    return text[:1].lower() + text[1:]


def _app(atlas: str | Path) -> Callable[..., FastAPI]:
    from circuit_atlas.service.web.app import create_app

    return partial(create_app, Atlas.open(atlas))


def _server(app: FastAPI, on_started: Callable[[], None]) -> uvicorn.Server:
    """A server that says when it has started."""
    import uvicorn

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                on_started()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # A second Ctrl-C would cut off what the first closes, which takes _GRACE_S at most.
            if not self.should_exit:
                # An answer that nobody reads is cut off then, which is no error to tell of.
                logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL + 1)
                super().handle_exit(sig, frame)

    return Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            ws="none",
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )


def _address(host: str, listening: socket.socket) -> str:
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{listening.getsockname()[1]}"
