"""Commands that run until they are told to end, on something tiny: with what, and how one sees that
they are at work."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiohttp import web

from circuit_atlas.service.commands.cli import main
from tests.patience import PATIENCE_S, until

_MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
"""
_SPEC = """
[model]
reference = "endings_network:network"
code = "."
[preprocessing]
mean = [0, 0, 0]
std = [1, 1, 1]
[images]
source = "images.npy"
held_out = "odd"
[[layers]]
name = "2"
units = [0, 1]
[circuits]
criteria = ["{criterion}", "random"]
fractions = [1, 0.5, 0.2]
[learned]
steps = 100000
crop = 16
[features]
steps = {steps}
tries = 1
size = 16
groups = false
nodes = false
[run]
store = "{store}"
self_check = false
"""
_QUICK, _ENDLESS = 4, 100_000
_JOB = {"type": "SUBMISSION", "entrypoint": "build", "status": "RUNNING", "submission_id": "mine"}


@dataclass(frozen=True)
class Command:
    """A command line.

    Attributes:
        name: by which the table tells it.
        arguments: of it, in a folder.
        at_work: what it prints once it is at work.
        quick: arguments with which it ends by itself; none where it never does.
    """

    name: str
    arguments: Callable[[Path], list[str]]
    at_work: str
    quick: Callable[[Path], list[str]] | None = None


def _of_spec(name: str, spec: str, *more: str) -> Callable[[Path], list[str]]:
    return lambda folder: [name, str(folder / f"{spec}.toml"), "--plain-progress", *more]


_LOCAL = ("--executor", "local")
COMMANDS = (
    Command(
        "build",
        _of_spec("build", "endless", *_LOCAL),
        "under way",
        _of_spec("build", "quick", *_LOCAL),
    ),
    Command("build on Ray", _of_spec("build", "endless"), "under way", _of_spec("build", "quick")),
    Command(
        "features",
        _of_spec("features", "unseen", *_LOCAL),
        "under way",
        _of_spec("features", "seen", *_LOCAL),
    ),
    Command(
        "compare",
        _of_spec("compare", "endless", *_LOCAL),
        "under way",
        _of_spec("compare", "quick", *_LOCAL, "--draws", "20", "--no-ground-truth"),
    ),
    Command(
        "demo",
        lambda folder: ["demo", *_LOCAL, "--plain-progress", "--store", str(folder / "demo")],
        "under way",
    ),
    Command("serve", lambda folder: ["serve", str(folder / "built"), "--port", "0"], "served at"),
    Command(
        "submit",
        lambda folder: [
            *("submit", "--follow", "mine", "--address"),
            (folder / "cluster").read_text(),
        ],
        "the first line",
    ),
)


@contextlib.contextmanager
def prepared(folder: Path) -> Iterator[Path]:
    """Write what the commands need into a folder, where a cluster runs a job until the block ends:
    as far as its job server can tell."""
    (folder / "endings_network.py").write_text(_MODEL)
    images = np.random.default_rng(0).normal(size=(8, 3, 16, 16)).astype(np.float32)
    np.save(folder / "images.npy", images)
    for name, criterion, steps, store in (
        ("endless", "learned", _QUICK, "begun"),
        ("quick", "actgrad", _QUICK, "built"),
        ("unseen", "actgrad", _ENDLESS, "built"),
        ("seen", "actgrad", _QUICK, "built"),
    ):
        text = _SPEC.format(criterion=criterion, steps=steps, store=store)
        (folder / f"{name}.toml").write_text(text)
    assert main(["build", str(folder / "quick.toml"), *_LOCAL]) == 0
    address, stop = folder / "cluster", threading.Event()
    thread = threading.Thread(target=_job_server, args=(address.write_text, stop), daemon=True)
    thread.start()
    until(address.exists, "a job server to start")
    try:
        yield folder
    finally:
        stop.set()
        thread.join(PATIENCE_S)


def _job_server(started: Callable[[str], None], stop: threading.Event) -> None:
    """Ray's, as of a job that has printed a line and runs for ever."""

    async def version(request: web.Request) -> web.Response:
        del request
        return web.json_response({"version": "4", "ray_version": "2.50"})

    async def job(request: web.Request) -> web.Response:
        del request
        return web.json_response(_JOB)

    async def log(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("the first line\n")
        await socket.receive()
        return socket

    async def serve() -> None:
        app = web.Application()
        app.router.add_get("/api/version", version)
        app.router.add_get("/api/jobs/mine", job)
        app.router.add_get("/api/jobs/mine/logs/tail", log)
        runner = web.AppRunner(app, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        started(f"http://{host}:{port}")
        while not stop.is_set():
            await asyncio.sleep(0.05)
        await runner.cleanup()

    asyncio.run(serve())
