"""What ends the processes of a Ray on this machine when its driver was killed.

Ray's servers die with the driver that started them, and its workers soon after. Two helpers of its
first tell those servers that they are gone, and wait a minute for the answer. So a small process
stands by, the program at the end of this file: once the driver is gone without a word, it ends
what is left. It tells these processes by a variable of their environment, and Linux alone lets it
look.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

_MARK = "CIRCUIT_ATLAS_RAY"
# Ray's helpers name themselves in the memory where their environment stands, mark and all, unless
# this tells them to spare it.
_SPARED = {"SPT_NOENV": "1"}
_WELL = b"well"
# Ray's own ending comes first, and takes about two seconds.
_GRACE_S = 3.0
_TRIES = 50
# A process that has just been started may have no environment yet.
_LOOKS_WITHOUT = 5
_PAUSE_S = 0.2


@contextlib.contextmanager
def reaped() -> Iterator[dict[str, str]]:
    """Has the processes that are started with these variables end with this one, however that does.

    Nothing is watched where there is no `/proc`.
    """
    if not Path("/proc/self/environ").exists():
        yield {}
        return
    mark = uuid.uuid4().hex
    reaper = subprocess.Popen(
        # Out of the reach of Ctrl-C and of a terminal that is closed; without a package of ours.
        [sys.executable, "-I", "-S", __file__, mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
    try:
        yield {_MARK: mark, **_SPARED}
    finally:
        # One that was ended itself has nobody to tell.
        with contextlib.suppress(BrokenPipeError):
            reaper.communicate(_WELL)


def _reap(mark: str) -> None:
    """Wait until the driver says that all is well, or is gone; then end what has the mark."""
    if sys.stdin.buffer.read() == _WELL:
        return
    time.sleep(_GRACE_S)
    looks_without = 0
    for _ in range(_TRIES):
        left = [pid for pid in _processes() if _has(pid, f"{_MARK}={mark}".encode())]
        looks_without = 0 if left else looks_without + 1
        if looks_without == _LOOKS_WITHOUT:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_S)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def _has(pid: int, variable: bytes) -> bool:
    try:
        return variable in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False


if __name__ == "__main__":
    _reap(sys.argv[1])
