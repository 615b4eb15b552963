"""Waits of trials that run out, with programs that would never end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.chaos.limits import MARK, Family, OverdueError, wait_until
from tests.processes import running, signal_all

# It writes its stacks on SIGUSR1, and starts a process in a session of its own.
_HANGS = """
import faulthandler, os, signal, subprocess, sys
faulthandler.register(signal.SIGUSR1, open(f"{sys.argv[1]}/stacks-{os.getpid()}.txt", "w"))
child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE,
                         start_new_session=True)
print(child.pid, flush=True)
def never_ends():
    child.wait()
never_ends()
"""


@contextmanager
def hanging(folder: Path, **variables: str) -> Iterator[list[int]]:
    """The program and what it started, by their numbers."""
    with subprocess.Popen(
        [sys.executable, "-c", _HANGS, str(folder)],
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        start_new_session=True,
    ) as program:
        assert program.stdout is not None
        child = int(program.stdout.readline())
        try:
            yield [program.pid, child]
        finally:
            program.kill()


def test_a_wait_that_runs_out_says_who_was_running_and_ends_them(tmp_path: Path) -> None:
    family = Family(tmp_path)
    with hanging(tmp_path, **{MARK: family.mark}) as pids:
        with pytest.raises(OverdueError) as raised, family.limited():
            wait_until(lambda: False, "what never comes", within_s=0.1)
        told = str(raised.value)
        assert "waited 0.1 s for what never comes" in told
        assert "never_ends" in told
        assert all(f"{pid} {sys.executable}" in told for pid in pids)
        wait_until(lambda: not any(running(pid) for pid in pids), "their end")


def test_a_command_that_was_forked_is_told_by_its_session(tmp_path: Path) -> None:
    family = Family(tmp_path)
    with hanging(tmp_path) as pids:
        assert family.outlived(within_s=0.0) == ""
        family.add(pids[0])
        assert "never_ends" in family.outlived(within_s=0.1)
        wait_until(lambda: not running(pids[0]), "its end")
        signal_all(pids[1:], signal.SIGKILL)
    assert family.outlived(within_s=0.1) == ""
