"""Every fault by its name, with what it needs."""

from __future__ import annotations

import contextlib
from functools import partial
from pathlib import Path

from circuit_atlas.cluster.process import environment
from tests.changing_cluster import Machines, changing_cluster
from tests.chaos import faults_driver, faults_ray, faults_store, faults_work
from tests.chaos.stages import BEGUN
from tests.chaos.subject import Subject, undisturbed
from tests.chaos.trial import Fault, Outcome, Trial, run_trial

_MACHINES = ("first", "second", "third")
NAMES = (
    *faults_driver.FAULTS,
    *faults_store.FAULTS,
    *faults_work.FAULTS,
    *faults_ray.FAULTS,
    *faults_ray.MACHINE_FAULTS,
)
OF_DISKS = ("full-disk", "no-inodes", "read-only")
"""Those that need a disk of their own, which root alone can mount."""
SHORT = (
    *(f"kill-{stage}" for stage in BEGUN),
    "stop-units",
    "close-terminal",
    "full-disk",
    "read-only",
    "segfault",
    "out-of-memory",
    "nan-image",
)
"""A short form: those that are part of the tests."""


class Trials:
    """Runs trials in a folder; what several of them need is made once.

    Args:
        folder: where all of it goes; its path is short, as it holds the sockets of a Ray.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._undisturbed: Subject | None = None
        self._machines: Machines | None = None
        self._session = contextlib.ExitStack()
        self._count = 0

    def __enter__(self) -> Trials:
        return self

    def __exit__(self, *exception: object) -> None:
        self._session.close()

    def run(self, name: str, seed: int) -> Outcome:
        """Let the fault of that name meet a build, with everything that is drawn of a seed."""
        self._count += 1
        trial = Trial(
            fault=name,
            subject=self._subject(),
            folder=self._folder / str(self._count),
            seed=seed,
        )
        return run_trial(self._fault(name, trial), trial)

    def _subject(self) -> Subject:
        if self._undisturbed is None:
            folder = self._folder / "undisturbed"
            folder.mkdir()
            self._undisturbed = undisturbed(folder)
        return self._undisturbed

    def _fault(self, name: str, trial: Trial) -> Fault:
        if name in faults_ray.MACHINE_FAULTS:
            return partial(faults_ray.MACHINE_FAULTS[name], machines=self._cluster(trial))
        every = faults_driver.FAULTS | faults_store.FAULTS | faults_work.FAULTS | faults_ray.FAULTS
        return every[name]

    def _cluster(self, trial: Trial) -> Machines:
        """Three machines, whose workers obey the orders of this trial."""
        current = self._folder / "current"
        current.unlink(missing_ok=True)
        current.symlink_to(trial.folder)
        if self._machines is None:
            home = self._folder / "ray"
            home.mkdir()
            with environment({"CHAOS_TRIAL": str(current)}):
                self._machines = self._session.enter_context(changing_cluster(home))
                for machine in _MACHINES:
                    self._machines.add(machine, 1)
        return self._machines
