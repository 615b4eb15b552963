"""Faults inside the process that computes: of its clock and its model."""

from __future__ import annotations

import signal

from tests.chaos.trial import Fault, Trial

_UNIT_FAILED, _BAD_INPUT, _INFRASTRUCTURE = 1, 2, 4


def clock(trial: Trial) -> None:
    """The clock is moved by up to a day, again and again."""
    trial.order(clock=True)
    trial.check_end(trial.build(), 0)
    trial.faults += 1
    trial.finish()


def segfault(trial: Trial) -> None:
    """A unit takes the process down, where that is the whole build."""
    trial.order(units={trial.unit(): "segfault"})
    command = trial.build()
    trial.faults += command.wait() == -signal.SIGSEGV
    trial.finish()


def raises(trial: Trial) -> None:
    """A module raises at random, at the start and with its units."""
    trial.order(raises=0.2, raises_at_its_start=0.3)
    for _ in range(3):
        command = trial.build()
        trial.check_end(command, 0, _UNIT_FAILED, _BAD_INPUT, _INFRASTRUCTURE)
        trial.faults += command.wait() != 0
    trial.finish()


FAULTS: dict[str, Fault] = {
    "clock": clock,
    "segfault": segfault,
    "raises": raises,
}
"""Those of this file, by name."""
