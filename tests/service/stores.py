"""Where an atlas can be opened from: a folder, an object store, and a server of ours."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.types import ASGIApp

from tests.patience import PATIENCE_S, START_S, until

_BUCKET = "bucket"
# A client that does not read its answer would keep a server for ever.
_GRACE_S = 1


@contextmanager
def served(app: ASGIApp) -> Iterator[str]:
    """The address at which an app answers, over real sockets."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_level="error", timeout_graceful_shutdown=_GRACE_S
    )
    server = uvicorn.Server(config)
    # One that hangs must not hold up the end of all tests.
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    try:
        until(lambda: server.started, "a server in a thread to start", within_s=START_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        until(lambda: not thread.is_alive(), "a server in a thread to end")


@contextmanager
def started(command: list[str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server in a process of its own, and the line that it says."""
    server = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        if not line:
            raise AssertionError(server.communicate(timeout=START_S)[1])
        yield server, line
    finally:
        if server.poll() is None:
            server.kill()
        server.communicate(timeout=PATIENCE_S)


@contextmanager
def object_store(log: Path) -> Iterator[dict[str, str]]:
    """What the environment of those who talk to a bucket of an S3 of our own has to be."""
    pytest.importorskip("moto", reason="moto stands in for S3")
    port = _free_port()
    with log.open("w") as output:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
        server = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            address = f"http://127.0.0.1:{port}"
            until(
                lambda: server.poll() is not None or _makes_bucket(address),
                f"moto, which stands in for S3, to make a bucket at {address}",
                within_s=START_S,
            )
            assert server.poll() is None, f"moto ended: {log.read_text()}"
            yield {
                "AWS_ENDPOINT": address,
                "AWS_ALLOW_HTTP": "true",
                "AWS_ACCESS_KEY_ID": "id",
                "AWS_SECRET_ACCESS_KEY": "secret",
                "AWS_REGION": "us-east-1",
            }
        finally:
            server.kill()  # it keeps nothing
            server.wait(PATIENCE_S)


def _makes_bucket(address: str) -> bool:
    request = urllib.request.Request(f"{address}/{_BUCKET}", method="PUT")
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S):
            return True
    except OSError:  # not there yet, or too slow: making it again does no harm
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
