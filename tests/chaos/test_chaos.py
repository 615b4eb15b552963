"""The short form of the trials: builds killed in each stage, stopped, and on disks that fail. The
long one is `python -m tests.chaos`."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.faults import OF_DISKS, SHORT, Trials
from tests.chaos.faults_store import can_mount


@pytest.fixture(scope="module")
def trials(private_home: Path) -> Iterator[Trials]:
    folder = private_home / "chaos"
    folder.mkdir()
    with Trials(folder) as trials:
        yield trials


@pytest.mark.parametrize("name", SHORT)
def test_nothing_is_lost_wrong_or_computed_again(name: str, trials: Trials) -> None:
    if name in OF_DISKS and not can_mount():
        pytest.skip("a small disk of its own can be mounted by root alone")
    seed = random.randrange(10**6)
    print(f"python -m tests.chaos {name} --seed {seed}")  # noqa: T201
    outcome = trials.run(name, seed)
    assert outcome.complaints == ()
    assert (outcome.lost, outcome.wrong, outcome.again) == (0, 0, 0)
