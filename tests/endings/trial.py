"""A command that is ended in some way: how soon it ends, and who is left of its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.endings.commands import Command
from tests.patience import START_S, until
from tests.processes import marked, signal_all, title

How = Literal["by itself", "an error", "Ctrl-C", "SIGTERM", "SIGHUP"]
LEFT_S = 2.0
"""How long a process may outlive its command."""
_MARK = "ENDINGS_MARK"
_SIGNALS = {"Ctrl-C": signal.SIGINT, "SIGTERM": signal.SIGTERM, "SIGHUP": signal.SIGHUP}
# Tests may run under nohup, or in the background of a shell, which hand down that they are deaf.
_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
from circuit_atlas.service.commands.cli import program
program()
"""


@dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
        code: its exit code, negative where a signal ended it.
        ended_s: seconds from the signal to its end; None where there was no signal.
        text: what it printed.
        left: command lines of its processes that were there two seconds later.
    """

    code: int
    ended_s: float | None
    text: str
    left: tuple[str, ...]


def tried(command: Command, how: How, folder: Path) -> Outcome | None:
    """Start a command and end it; None where it cannot end so.

    An error is that of a unit that is not there, or of an atlas.
    """
    arguments = _arguments(command, how, folder)
    if arguments is None:
        return None
    shutil.rmtree(folder / "begun", ignore_errors=True)
    mark, log = uuid.uuid4().hex, folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "OMP_NUM_THREADS": "1", _MARK: mark},
            start_new_session=True,
        )
    try:
        signalled_s = None
        if how in _SIGNALS:
            until(
                lambda: process.poll() is not None or command.at_work in log.read_text(),
                f"{command.name} to be at work",
                within_s=START_S,
            )
            assert process.poll() is None, log.read_text()
            signalled_s = time.monotonic()
            # A terminal's go to all of a program's processes, a cluster's to the program.
            (os.kill if how == "SIGTERM" else os.killpg)(process.pid, _SIGNALS[how])
        process.wait(START_S)
        ended_s = time.monotonic()
        while (left := marked(_MARK, mark)) and time.monotonic() - ended_s < LEFT_S:
            time.sleep(0.02)
        return Outcome(
            process.returncode,
            None if signalled_s is None else ended_s - signalled_s,
            log.read_text(),
            tuple(map(title, left)),
        )
    finally:
        signal_all(marked(_MARK, mark), signal.SIGKILL)
        process.wait(START_S)


def _arguments(command: Command, how: How, folder: Path) -> list[str] | None:
    if how == "by itself":
        return command.quick(folder) if command.quick else None
    arguments = command.arguments(folder)
    if how != "an error":
        return arguments
    if command.name == "serve":
        return ["serve", str(folder)]
    return [*arguments, "--units", "999"] if "--plain-progress" in arguments else None
