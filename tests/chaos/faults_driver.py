"""Faults of the process that leads a build: killed, told to stop, stopped for a while, doubled."""

from __future__ import annotations

import shutil
import signal
import time
from functools import partial

from tests.chaos.driver import NOHUP, TERMINAL, Driver, send
from tests.chaos.stages import BEGUN
from tests.chaos.terminal import Terminal
from tests.chaos.trial import Fault, Trial

_INTERRUPTED = 130
_TO_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SUSPENDED_S = 3.0
_MIDDLE = ("responses", "units", "sealing")


def killed(trial: Trial, stage: str) -> None:
    """SIGKILL at a random moment in a stage."""
    command = _in_stage(trial, stage)
    if trial.a_moment(stage, command):
        trial.faults += send(command, signal.SIGKILL)
    command.wait()
    trial.finish()


def stopped(trial: Trial, stage: str) -> None:
    """Ctrl-C, SIGTERM or a closed terminal at a random moment in a stage, to the whole group."""
    command = _in_stage(trial, stage)
    met = trial.a_moment(stage, command)
    if met:
        met = send(command, trial.random.choice(_TO_STOP), group=True)
        trial.faults += met
    trial.check_end(command, _INTERRUPTED, 0, int(stage == "visualizations"))
    trial.finish()


def suspended(trial: Trial) -> None:
    """SIGSTOP at a random moment, and SIGCONT some seconds later."""
    command = trial.build()
    if trial.a_moment(trial.random.choice(_MIDDLE), command):
        trial.faults += send(command, signal.SIGSTOP)
        time.sleep(_SUSPENDED_S)
        send(command, signal.SIGCONT)
    trial.check_end(command, 0)
    trial.finish()


def terminal_closed(trial: Trial, *, nohup: bool) -> None:
    """The terminal is closed in the middle; a command under `nohup` goes on."""
    terminal = Terminal()
    trial.variables = {TERMINAL: terminal.name, **({NOHUP: "1"} if nohup else {})}
    command = trial.build()
    trial.faults += trial.a_moment(trial.random.choice(_MIDDLE), command)
    terminal.close()
    # A build that is done, but for the end of its process, hears of it as any program does.
    trial.check_end(command, *((0,) if nohup else (_INTERRUPTED, 0, -signal.SIGHUP)))
    trial.variables = {}
    trial.finish()


def doubled(trial: Trial) -> None:
    """Two builds of the same atlas at once."""
    first = trial.build()
    time.sleep(trial.random.uniform(0, trial.subject.stages_s["units"]))
    trial.faults += first.poll() is None
    second = trial.build()
    for command in (first, second):
        trial.check_end(command, 0)


def _in_stage(trial: Trial, stage: str) -> Driver:
    """The command that comes to the stage."""
    if stage != "visualizations":
        return trial.build()
    trial.visualized = True
    shutil.copytree(
        trial.subject.atlas, trial.atlas, ignore=shutil.ignore_patterns("features", "computed")
    )
    return trial.features()


FAULTS: dict[str, Fault] = {
    **{f"kill-{stage}": partial(killed, stage=stage) for stage in BEGUN},
    **{f"stop-{stage}": partial(stopped, stage=stage) for stage in BEGUN},
    "suspend": suspended,
    "close-terminal": partial(terminal_closed, nohup=False),
    "nohup": partial(terminal_closed, nohup=True),
    "two-drivers": doubled,
}
"""Those of this file, by name."""
