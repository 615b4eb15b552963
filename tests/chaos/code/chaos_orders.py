"""What goes wrong inside a process, as the trial orders it: in whichever process computes units.

The folder of a trial is named by CHAOS_TRIAL. There each unit that was computed leaves a mark,
whose time is the file system's, `orders.json` says what is to go wrong, and each process writes its
stacks on SIGUSR1. A worker of a cluster has the model's code and no other of the tests, so this
stands beside the network.
"""

from __future__ import annotations

import faulthandler
import json
import os
import random
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from circuit_atlas.jobs.tasks import worker
from circuit_atlas.storage_schema.records import CircuitRecord, FailureRecord

TRIAL = "CHAOS_TRIAL"
_CLOCK_S = (-86_400.0, 86_400.0, -3_600.0, 45.0)
# As Python, torch, and the library beneath torch put it.
_RAN_OUT = (
    MemoryError("no room"),
    torch.OutOfMemoryError("tried to allocate 20.00 MiB"),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 20971520 bytes"),
    RuntimeError("could not create a primitive"),
)
_obeying: list[Path] = []
_time = time.time


def obey() -> None:
    """Have this process leave marks and do what the trial orders; the start of it, each time."""
    name = os.environ.get(TRIAL)
    if name is None:
        return
    trial = Path(name)
    orders: dict[str, Any] = json.loads((trial / "orders.json").read_text())
    if random.random() < orders.get("raises at its start", 0.0):
        raise RuntimeError("no such luck")
    if not _obeying:
        _obeying.append(trial)
        stacks = os.open(trial / f"stacks-{os.getpid()}.txt", os.O_WRONLY | os.O_CREAT)
        faulthandler.register(signal.SIGUSR1, stacks)
        _install(trial, orders)


def _install(trial: Path, orders: dict[str, Any]) -> None:
    compute, open_block = worker.compute, worker.open_block

    def marking(block: Any, keys: Sequence[Any]) -> Iterator[CircuitRecord | FailureRecord]:
        for result in compute(block, keys):
            if isinstance(result, CircuitRecord):
                key = result.key
                (trial / "computed" / f"{key.layer}-{key.unit}-{uuid.uuid4().hex}").touch()
            yield result

    def ordered(opened: Any, layer: Any, header: Any, numbers: Sequence[int], **more: Any) -> Any:
        for number in numbers:
            _do(orders, trial, f"{layer.index.layer}/{number}")
        if random.random() < orders.get("raises", 0.0):
            raise RuntimeError("no such luck")
        if "clock" in orders:
            by_s = random.choice(_CLOCK_S)
            time.time = lambda: _time() + by_s
        _need_memory(orders, trial, len(numbers) * more["together"])
        time.sleep(orders.get("seconds a block", 0.0))
        return open_block(opened, layer, header, numbers, **more)

    worker.compute, worker.open_block = marking, ordered  # type: ignore[assignment]


def _need_memory(orders: dict[str, Any], trial: Path, images: int) -> None:
    """Runs out of memory for more images at a time, of all units, than there is room for."""
    if images > orders.get("room", images):
        (trial / f"ran-out-{uuid.uuid4().hex}").touch()
        raise random.choice(_RAN_OUT)


def _do(orders: dict[str, Any], trial: Path, unit: str) -> None:
    """What a unit does to its process, once."""
    what = orders.get("units", {}).get(unit)
    if what is None:
        return
    try:
        (trial / f"did-{unit.replace('/', '-')}").touch(exist_ok=False)
    except FileExistsError:
        return
    if what == "hang":
        time.sleep(3600)
    os.kill(os.getpid(), {"segfault": signal.SIGSEGV, "kill": signal.SIGKILL}[what])
