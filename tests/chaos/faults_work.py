"""Faults inside the process that computes: of its clock, its memory, its images and its model."""

from __future__ import annotations

import shutil
import signal

import numpy as np

from tests.chaos.trial import Fault, Trial

_UNIT_FAILED, _BAD_INPUT, _STORE, _INFRASTRUCTURE = 1, 2, 3, 4
_LARGEST = np.finfo(np.float32).max


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


def memory(trial: Trial) -> None:
    """Memory runs out for more than a few units at once, and in the end for each."""
    trial.order(memory_for_units=trial.random.randint(1, 6))
    trial.check_end(trial.build("--max-units", "12"), 0)
    trial.order(memory_for_units=0)
    command = trial.build()
    trial.check_end(command, _UNIT_FAILED, _INFRASTRUCTURE)
    if "memory ran out with one unit and one image at a time" not in command.output():
        trial.complaints.append(f"does not say that memory ran out: {command.output()}")
    trial.faults += 2
    trial.finish()


def raises(trial: Trial) -> None:
    """A module raises at random, at the start and with its units."""
    trial.order(raises=0.2, raises_at_its_start=0.3)
    for _ in range(3):
        command = trial.build()
        trial.check_end(command, 0, _UNIT_FAILED, _BAD_INPUT, _INFRASTRUCTURE)
        trial.faults += command.wait() != 0
    trial.finish()


def not_a_number(trial: Trial) -> None:
    """An image makes NaN or infinity of what units respond; without it, the images are others."""
    images = np.load(trial.subject.folder / "images.npy")
    images[trial.random.randrange(len(images))] = _LARGEST
    trial.images = trial.folder / "images.npy"
    np.save(trial.images, images)
    command = trial.build()
    trial.check_end(command, _UNIT_FAILED)
    if "responds with NaN or infinity to image" not in command.output():
        trial.complaints.append(f"does not say which image it is: {command.output()}")
    trial.faults += 1
    trial.images = None
    trial.check_end(trial.build(), _STORE)
    shutil.rmtree(trial.atlas)
    trial.finish()


FAULTS: dict[str, Fault] = {
    "clock": clock,
    "segfault": segfault,
    "memory": memory,
    "raises": raises,
    "nan-image": not_a_number,
}
"""Those of this file, by name."""
