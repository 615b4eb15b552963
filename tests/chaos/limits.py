"""Limits on what a trial waits for, and what is told of its processes when one runs out."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.patience import START_S
from tests.processes import marked, running, signal_all, title

MARK = "CHAOS_MARK"
"""The variable that tells the processes of a trial from all others."""
ENDED_S = 2.0
"""How long processes may outlive a command that ended by itself or was told to."""
_LOOK_S = 0.005
_STACKS_S = 1.0


class OverdueError(Exception):
    """What a trial waited for did not come in time; says what was running, and where it was."""


def wait_until(ready: Callable[[], object], what: str, *, within_s: float = START_S) -> None:
    """Wait for something; TimeoutError where it does not come in time."""
    deadline_s = time.monotonic() + within_s
    while not ready():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"waited {within_s:g} s for {what}")
        time.sleep(_LOOK_S)


class Family:
    """The processes of a trial: those that lead its commands, and all that these started.

    Args:
        folder: the trial's, where processes write their stacks when they are asked to.

    Attributes:
        mark: what they have as `MARK`, but for commands that were forked.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._sessions: set[int] = set()
        self.mark = uuid.uuid4().hex

    def add(self, pid: int) -> None:
        """Take in a command, which leads a session."""
        self._sessions.add(pid)

    def running(self) -> list[int]:
        """Give those that run."""
        of_sessions = {pid for pid in self._sessions if _in_session(pid, pid)}
        return sorted({*marked(MARK, self.mark), *of_sessions})

    @contextlib.contextmanager
    def limited(self) -> Iterator[None]:
        """Turn a wait that ran out into an error that says who was running, and end these."""
        try:
            yield
        except TimeoutError as error:
            raise OverdueError(f"{error}; running were:\n{self._end()}") from None

    def outlived(self, *, within_s: float) -> str:
        """Give who is running so long after all commands have ended, and end these; nothing where
        nobody is."""
        with contextlib.suppress(TimeoutError):
            wait_until(lambda: not self.running(), "their end", within_s=within_s)
        return self._end()

    def _end(self) -> str:
        """End all that run; a line each, with the stacks of those that tell."""
        pids = self.running()
        files = {pid: self._folder / f"stacks-{pid}.txt" for pid in pids}
        telling = [pid for pid in pids if files[pid].exists()]
        signal_all(telling, signal.SIGUSR1)
        time.sleep(_STACKS_S if telling else 0.0)
        lines = []
        for pid in pids:
            lines.append(f"{pid} {title(pid)}")
            if pid in telling:
                lines.append(files[pid].read_text())
        signal_all(pids, signal.SIGKILL)
        return "\n".join(lines)


def _in_session(pid: int, session: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        return running(pid) and os.getsid(pid) == session
    return False
