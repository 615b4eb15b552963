"""The short form of the trials: builds killed and stopped in each stage, on disks that fail, and
with what goes wrong inside. `python -m tests.chaos` is the long one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import NAMES, OF_DISKS, OF_RAY, Trials
from tests.chaos.faults_store import can_mount


@pytest.fixture(scope="module")
def trials(private_home: Path) -> Iterator[Trials]:
    folder = private_home / "chaos"
    folder.mkdir()
    with Trials(folder) as trials:
        yield trials


@pytest.mark.parametrize("name", [name for name in NAMES if name not in OF_RAY])
def test_nothing_is_lost_wrong_or_computed_again(name: str, trials: Trials) -> None:
    if name in OF_DISKS and not can_mount():
        pytest.skip("a small disk of its own can be mounted by root alone")
    seed = random.randrange(10**6)
    print(f"python -m tests.chaos {name} --seed {seed}")  # noqa: T201
    outcome = trials.run(name, seed)
    assert outcome.complaints == ()
    assert (outcome.lost, outcome.wrong, outcome.again) == (0, 0, 0)
