"""A run on a cluster whose machines come, are killed, or start no worker, while it goes on."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.changing_cluster import Machines, Run, changing_cluster
from tests.patience import until

pytestmark = pytest.mark.ray
UNITS = 1200


@pytest.fixture(scope="module")
def machines(private_home: Path) -> Iterator[Machines]:
    with changing_cluster(private_home) as machines:
        yield machines


def begun(log: Path, machine: str) -> int:
    """How many units were begun on a machine."""
    return len(list(log.glob(f"unit*-{machine}")))


def starts(log: Path, machine: str) -> int:
    return len(list(log.glob(f"start-*-{machine}")))


def test_a_run_goes_on_as_machines_come_die_and_fail(machines: Machines, tmp_path: Path) -> None:
    machines.add("first", 1)
    with contextlib.closing(Run(machines.address, tmp_path, units=UNITS)) as run:
        run.until("done")
        # One that comes in the middle is at work within 30 s.
        machines.add("second", 1)
        until(lambda: begun(tmp_path, "second"), "the second machine", within_s=30.0)
        # One on which no worker starts is tried with pauses, and holds up nobody.
        machines.add("bad", 1)
        until(lambda: starts(tmp_path, "bad") >= 2, "a second try on the bad machine")
        since_s = time.monotonic()
        # One that is killed, in the middle of a block, takes nothing along.
        machines.kill("first")
        run.until("lost")
        # One that is killed while its worker starts is told of, and counts as no failure.
        machines.add("slow", 1)
        until(lambda: starts(tmp_path, "slow"), "a start on the slow machine")
        machines.kill("slow")
        run.until("start a worker's start: the machine was lost")
        tried, for_s = starts(tmp_path, "bad"), time.monotonic() - since_s
        assert tried <= 2 + sum(for_s > pauses_s for pauses_s in (4, 4 + 8, 4 + 8 + 16))
        assert run.end() == 0
    lost = run.said("lost")
    assert [line.startswith("lost True conv units") for line in lost] == [True]
    assert lost[0].endswith(": the machine was lost")
    done = [unit for line in run.said("done") for unit in line.split()[1:]]
    assert Counter(done) == Counter(map(str, range(UNITS)))
    # Ray would print that a machine was lost, and the end of its log.
    assert {line.partition(" ")[0] for line in run.lines} == {"done", "lost", "ready", "start"}
    # The last may have begun as the run ended.
    told = len(run.said("start a worker could not start"))
    assert starts(tmp_path, "bad") - 1 <= told <= starts(tmp_path, "bad")
    assert run.errors == ""
