"""The processes that a test started, and those that they started: told by a variable that all of
them have, so that no other process is ever taken for one of them."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.patience import until


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


def variable(pid: int, name: str) -> str:
    """Give a variable of a process' environment, empty where it has none or has ended."""
    start = f"{name}=".encode()
    found = [entry for entry in _environment(pid) if entry.startswith(start)]
    return found[0].removeprefix(start).decode() if found else ""


def descendants(pid: int) -> list[int]:
    """Give the processes that a process started, and those that they did."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [
            int(child) for task in tasks for child in (task / "children").read_text().split()
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [*children, *(further for child in children for further in descendants(child))]


def await_end(pids: Sequence[int], *, within_s: float) -> None:
    """Wait for processes to end, and say what those are that do not."""
    try:
        until(lambda: not any(map(running, pids)), "processes to end", within_s=within_s)
    except AssertionError as late:
        left = [f"{pid}, a child of {_parent(pid)}: {title(pid)}" for pid in pids if running(pid)]
        raise AssertionError("\n".join([str(late), *left])) from None


def signal_all(pids: list[int], number: signal.Signals) -> None:
    """Send a signal to processes, of which some may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _processes() -> Iterator[int]:
    return (int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def _has(pid: int, entry: bytes) -> bool:
    return entry in _environment(pid) and running(pid)


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def _parent(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except (FileNotFoundError, ProcessLookupError):
        return "one that has ended"
