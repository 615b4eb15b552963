"""Faults of the disk that an atlas is built on, which is a small one of its own in memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.chaos.driver import Driver
from tests.chaos.limits import wait_until
from tests.chaos.trial import Fault, Trial
from tests.flaky_store import Faults, flaky_store
from tests.patience import PATIENCE_S

_STORE = 3
_WRONG = 0.1
_PAGE_BYTES = 4096
_STAGES = ("images", "responses", "units", "sealing")


def can_mount() -> bool:
    """Tell whether this process may mount a disk, which root alone may."""
    return os.geteuid() == 0 and shutil.which("mount") is not None and _tried()


def full(trial: Trial) -> None:
    """The disk is full before the build has ended, and larger later."""
    pages = sum(-(-path.stat().st_size // _PAGE_BYTES) + 1 for path in _files(trial))
    _too_small(trial, f"size={int(pages * trial.random.uniform(0.05, 0.9)) * _PAGE_BYTES}")


def no_inodes(trial: Trial) -> None:
    """The disk has room for no more files before the build has ended."""
    count = sum(1 for _ in _files(trial))
    _too_small(trial, f"nr_inodes={int(count * trial.random.uniform(0.05, 0.9)) + 3}")


def read_only(trial: Trial) -> None:
    """The disk becomes read-only in the middle, and can be written later."""
    disk = _mount(trial, "size=64m")
    command = trial.build()
    _meet(trial, command, lambda: _remount(disk, "ro"))
    trial.check_end(command, _STORE, 0)
    _remount(disk, "rw")
    trial.finish()


def removed(trial: Trial) -> None:
    """Somebody removes the folder in the middle."""
    command = trial.build()
    _meet(trial, command, lambda: shutil.rmtree(trial.atlas))
    # What was written since is no atlas, or a part of one: an error, or built anew.
    trial.check_end(command, _STORE, 0)
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(trial.atlas)
    trial.finish()


def flaky(trial: Trial) -> None:
    """One request in ten goes wrong, in one of nine ways, to an object store."""
    before = set(os.environ)
    with flaky_store(seed=trial.seed) as store, store.environment():
        trial.variables = {name: os.environ[name] for name in set(os.environ) - before}
        trial.store = store.location
        store.faults = Faults(rate=_WRONG)
        trial.check_end(trial.build(), 0)
        trial.faults += sum(store.failed.values())
        store.faults = Faults()
        trial.finish()
    for key, stored in store.objects.items():
        path = trial.atlas / key.removeprefix("atlas/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(stored.data)
        os.utime(path, (stored.modified_s, stored.modified_s))


def _too_small(trial: Trial, option: str) -> None:
    disk = _mount(trial, option)
    command = trial.build()
    trial.check_end(command, _STORE, 0)
    trial.faults += command.wait() == _STORE
    if command.wait() == _STORE and "the disk is full" not in command.output():
        trial.complaints.append(f"does not say that the disk is full: {command.output()}")
    _remount(disk, "size=64m,nr_inodes=100000")
    trial.finish()


def _meet(trial: Trial, command: Driver, fault: Callable[[], None]) -> None:
    """Have something happen at a random moment, tried again while the build is in its way."""
    if not trial.a_moment(trial.random.choice(_STAGES), command):
        return

    def met() -> bool:
        if command.poll() is not None:
            return True
        try:
            fault()
        except (OSError, subprocess.CalledProcessError):
            return False
        trial.faults += 1
        return True

    wait_until(met, "a moment at which the build is not in the way of its fault")


def _files(trial: Trial) -> list[Path]:
    return [path for path in trial.subject.atlas.rglob("*") if "features" not in path.parts]


def _mount(trial: Trial, options: str) -> Path:
    disk = trial.folder / "disk"
    disk.mkdir()
    _run("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk))
    trial.afterwards.callback(_run, "umount", "-l", str(disk))
    trial.atlas = disk / "atlas"
    return disk


def _remount(disk: Path, options: str) -> None:
    _run("mount", "-o", f"remount,{options}", str(disk))


def _tried() -> bool:
    try:
        _run("unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt")
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _run(*command: str) -> None:
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=PATIENCE_S)


FAULTS: dict[str, Fault] = {
    "full-disk": full,
    "no-inodes": no_inodes,
    "read-only": read_only,
    "folder-removed": removed,
    "flaky-store": flaky,
}
"""Those of this file, by name."""
