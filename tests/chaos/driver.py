"""The process of a command, that a fault may meet: forked off one that has loaded everything, or a
program of its own with whatever Ray starts for it."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Protocol

from circuit_atlas.cluster.process import environment
from tests.patience import START_S

TERMINAL, NOHUP = "CHAOS_TERMINAL", "CHAOS_NOHUP"
"""Variables by which a command gets a terminal, and by which it does not hear that it is closed:
then it prints elsewhere, as `nohup` has it."""
_ROOT = Path(__file__).parents[2]


class Driver(Protocol):
    """A command that runs.

    Attributes:
        pid: its process, which leads a session.
        limit_s: how long it may take to its end, or to a stage.
    """

    pid: int
    limit_s: float

    def poll(self) -> int | None:
        """Give its exit code, negative where a signal ended it; None while it runs."""
        ...

    def wait(self) -> int:
        """Wait for its end, and give the exit code; TimeoutError where it does not come."""
        ...

    def output(self) -> str:
        """Give what it has printed so far, errors included."""
        ...


def forked(arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> Driver:
    """Start a command that needs no other process."""
    return _Forked(arguments, variables, log)


def program(arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> Driver:
    """Start a command as a shell would."""
    return _Program(arguments, variables, log)


def send(driver: Driver, number: signal.Signals, *, group: bool = False) -> bool:
    """Send a signal to a command that may have ended; whether it was there to get it."""
    if driver.poll() is not None:
        return False
    with contextlib.suppress(ProcessLookupError):
        (os.killpg if group else os.kill)(driver.pid, number)
        return True
    return False


class _Forked:
    limit_s = START_S

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        self._log = log
        self._process: ForkServerProcess = _context().Process(
            target=_run, args=(list(arguments), dict(variables), str(log))
        )
        # Of the first only: it starts what the others are forked off.
        with environment({"OMP_NUM_THREADS": "1", "PYTHONPATH": str(_ROOT)}):
            self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join(self.limit_s)
        if self._process.exitcode is None:
            raise _unended(self)
        return self._process.exitcode

    def output(self) -> str:
        return self._log.read_text() if self._log.exists() else ""


class _Program:
    # A build on a Ray of its own took 168 s on two cores that twenty processes shared.
    limit_s = 600.0

    def __init__(self, arguments: Sequence[str], variables: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "circuit_atlas.service.commands.cli", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, "OMP_NUM_THREADS": "1", **variables},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.poll()

    def wait(self) -> int:
        try:
            return self._process.wait(self.limit_s)
        except subprocess.TimeoutExpired:
            raise _unended(self) from None

    def output(self) -> str:
        return self._log.read_text()


def _unended(driver: Driver) -> TimeoutError:
    told = f"process {driver.pid} did not end in {driver.limit_s:g} s: {driver.output()}"
    return TimeoutError(told)


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.chaos.loaded"])
    return context


def _run(arguments: list[str], variables: dict[str, str], log: str) -> None:
    """The command, in the process that was forked."""
    os.setsid()
    os.environ.update(variables)
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    if TERMINAL in variables:
        # The first terminal that a session's leader opens is the session's.
        terminal = os.open(variables[TERMINAL], os.O_RDWR)
        if NOHUP in variables:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        else:
            output = terminal
    for number in (1, 2):
        os.dup2(output, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from circuit_atlas.service.commands.cli import main

    code = main(arguments)
    sys.stdout.flush()
    # A process that was forked has more to clean up than a program has.
    os._exit(code)
