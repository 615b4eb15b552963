"""Ctrl-C and SIGTERM in the middle of a run, in a process of its own with a Ray of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from circuit_atlas.cluster import process
from circuit_atlas.cluster.process import interrupts_deferred, signals_interrupt
from tests.patience import PATIENCE_S, until
from tests.processes import await_end, descendants, title, variable

PROGRAM = """
import contextlib, pathlib, signal, sys
sys.path.insert(0, sys.argv[1])
import toy
from ray import cloudpickle
from circuit_atlas.cluster.executor import TaskDone
from circuit_atlas.cluster.process import signals_interrupt
from circuit_atlas.cluster.ray_executor import RayExecutor
from circuit_atlas.cluster.retries import Policy
from circuit_atlas.cluster.local_executor import LocalExecutor

cloudpickle.register_pickle_by_value(toy)
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # tests may run under nohup
kind, log, temp = sys.argv[2], pathlib.Path(sys.argv[3]), pathlib.Path(sys.argv[4])
executor = LocalExecutor() if kind == "local" else RayExecutor(workers=2, temp_dir=temp)
job = toy.ToyJob(log, {unit: "slow" for unit in range(600)})
tasks = toy.tasks(*((unit,) for unit in range(600)))
try:
    with signals_interrupt(), executor:
        with contextlib.closing(executor.run(tasks, job, policy=Policy())) as events:
            for event in events:
                if isinstance(event, TaskDone):
                    print("done", event.task.units[0].unit, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(130)
"""


@contextlib.contextmanager
def program(kind: str, log: Path, home: Path) -> Iterator[subprocess.Popen[str]]:
    """The program, leading a process group as it would from a shell."""
    arguments = [str(Path(__file__).parent), kind, str(log), str(home / "r")]
    child = subprocess.Popen(
        [sys.executable, "-W", "error::FutureWarning", "-c", PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield child
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


# A terminal's Ctrl-C and its end go to the whole group, a cluster's SIGTERM to the program. Any may
# come again while Ray is being shut down.
@pytest.mark.parametrize(
    ("kind", "number", "send"),
    [
        ("local", signal.SIGINT, os.killpg),
        ("local", signal.SIGTERM, os.kill),
        ("local", signal.SIGHUP, os.killpg),
        pytest.param("ray", signal.SIGINT, os.killpg, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGTERM, os.kill, marks=pytest.mark.ray),
        pytest.param("ray", signal.SIGHUP, os.killpg, marks=pytest.mark.ray),
    ],
)
def test_a_stopped_run_ends_at_once_and_leaves_nobody(
    kind: str,
    number: signal.Signals,
    send: Callable[[int, int], None],
    tmp_path: Path,
    private_home: Path,
) -> None:
    with program(kind, tmp_path, private_home) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline().startswith("done"), child.stderr.read()
        family = descendants(child.pid)
        for _ in range(4 if kind == "ray" else 1):
            send(child.pid, number)
            time.sleep(0.05)
        out, err = child.communicate(timeout=PATIENCE_S)
        assert child.returncode == 130, err
    assert out.splitlines()[-1] == "interrupted"
    assert err == ""
    assert "done 599" not in out
    assert len(family) > 4 or kind == "local"
    await_end(family, within_s=PATIENCE_S)


@pytest.mark.ray
def test_a_killed_run_leaves_nobody(tmp_path: Path, private_home: Path) -> None:
    with program("ray", tmp_path, private_home) as child:
        assert child.stdout is not None
        assert child.stdout.readline().startswith("done")
        # They name themselves, and must not write that over the mark.
        until(lambda: len(_helpers(child.pid)) == 2, "the helpers of Ray's first server")
        until(lambda: len(_marks(child.pid)) == 1, "all processes to have the mark of this Ray")
        family = descendants(child.pid)
        child.kill()
    await_end(family, within_s=15.0)


def _helpers(pid: int) -> list[int]:
    return [each for each in descendants(pid) if re.match(r"ray::\w+Agent", title(each))]


def _marks(pid: int) -> set[str]:
    """The marks of a driver's Ray, empty for a process that has none; the reaper aside."""
    family = (each for each in descendants(pid) if "ray_reaper" not in title(each))
    return {variable(each, "CIRCUIT_ATLAS_RAY") for each in family}


def test_an_interrupt_waits_for_what_must_not_be_cut_off() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    done = []

    def work() -> None:
        with interrupts_deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGINT)
            done.append("all")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all"]
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_a_second_interrupt_does_not_cut_the_ending_off(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    ended = []
    with signals_interrupt():
        try:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
            ended.append("whole")
        monkeypatch.setattr(process, "_ENDING_S", -1.0)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGTERM)
    assert ended == ["whole"]
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))


def test_what_an_interrupt_cuts_off_is_no_error_of_its_own() -> None:
    def ends_in(error: OSError, *, stopped: bool) -> None:
        with signals_interrupt():
            if stopped:
                with contextlib.suppress(KeyboardInterrupt):
                    os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(10)
            raise error

    with pytest.raises(KeyboardInterrupt):
        ends_in(OSError("the terminal takes no line"), stopped=True)
    with pytest.raises(OSError, match="full"):
        ends_in(OSError("the disk is full"), stopped=False)
