"""The processes that a test started, and those that they started: told by a variable that all of
them have, so that no other process is ever taken for one of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path


def marked(name: str, value: str) -> list[int]:
    """Give the processes whose environment has the variable, but for zombies; Linux alone tells."""
    return [pid for pid in _processes() if _has(pid, f"{name}={value}".encode())]


def title(pid: int) -> str:
    """Give the command line of a process, empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def running(pid: int) -> bool:
    """Tell whether a process runs, and is no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, of which some may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _has(pid: int, variable: bytes) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return variable in environment.split(b"\0") and running(pid)
