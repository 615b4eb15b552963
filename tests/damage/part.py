"""A part of the kinds of files, damaged in a process of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from tests.damage.everything import build
from tests.damage.trials import Damaged, Trial


def tried(seed: int, kinds: list[str]) -> list[tuple[str, list[Trial]]]:
    """What comes of damages of some kinds of files, in a process of its own."""
    done = []
    with tempfile.TemporaryDirectory() as folder:
        damaged = Damaged(build(Path(folder) / "atlas"))
        for kind in kinds:
            done.append((kind, list(damaged.trials(kind, seed=seed))))
            _tell(*done[-1])
    return done


def _tell(kind: str, trials: list[Trial]) -> None:
    lost = [trial for trial in trials if not trial.found]
    click.echo(f"{kind}: {len(trials) - len(lost)} of {len(trials)} found")
    for trial in trials:
        if trial.wrong or not trial.found:
            what = f"wrong: {', '.join(trial.wrong[:4])}" if trial.wrong else "not found"
            click.echo(f"    {trial.damage} of {trial.path}: {what}")
