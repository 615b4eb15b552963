"""Faults inside the process that computes: of its clock, memory, model and images."""

from __future__ import annotations

import shutil
import signal

import numpy as np

from tests.chaos.driver import Driver
from tests.chaos.trial import Fault, Trial

_UNIT_FAILED, _BAD_INPUT, _STORE, _INFRASTRUCTURE = 1, 2, 3, 4
_MOST_IMAGES = 12
_HUGE = 3e38


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


def out_of_memory(trial: Trial) -> None:
    """Memory holds no image of any unit, then some: less is computed at a time."""
    trial.order(room=0)
    command = trial.build()
    trial.check_end(command, _INFRASTRUCTURE, _UNIT_FAILED)
    _says(trial, command, "use fewer workers, or a machine with more memory")
    trial.order(room=trial.random.randrange(1, _MOST_IMAGES))
    trial.check_end(trial.build(), 0)
    trial.faults += sum(1 for _ in trial.folder.glob("ran-out-*"))
    trial.finish()


def nan_image(trial: Trial) -> None:
    """One of the images makes NaN: its own values, or what the network makes of them."""
    images = np.load(trial.subject.images)
    number = trial.random.randrange(len(images))
    overflows = trial.random.random() < 0.5
    images[number] = np.copysign(_HUGE, images[number]) if overflows else np.nan
    trial.images = trial.folder / "images.npy"
    np.save(trial.images, images)
    command = trial.build()
    trial.check_end(command, _UNIT_FAILED if overflows else 0)
    trial.faults += 1
    _says(trial, command, "NaN or infinity to image" if overflows else "1 image left out")
    trial.images = None
    # What was built of other images is told from what these give, and goes.
    trial.check_end(trial.build(), _STORE)
    shutil.rmtree(trial.atlas)
    trial.finish()


def _says(trial: Trial, command: Driver, words: str) -> None:
    if words not in command.output():
        trial.complaints.append(f"does not say {words!r}: {command.output()}")


FAULTS: dict[str, Fault] = {
    "clock": clock,
    "segfault": segfault,
    "raises": raises,
    "out-of-memory": out_of_memory,
    "nan-image": nan_image,
}
"""Those of this file, by name."""
