"""Faults of a build's workers on Ray, of the machines that they are on, and of its driver there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from tests.changing_cluster import Machines
from tests.chaos.driver import Driver, send
from tests.chaos.trial import Fault, Trial
from tests.patience import PATIENCE_S
from tests.processes import signal_all, title

_LEFT_S = 15.0
"""How long processes may outlive a driver that was killed."""
_SLOW_S = 0.3
# On a busy machine, a worker's first task of a layer takes up to ten seconds; and a suspension of
# less is not told from a driver that is held up.
_DEADLINE_S = 20.0
_INTERRUPTED = 130


def worker_killed(trial: Trial) -> None:
    """SIGKILL of a worker at two random moments."""
    command = _slow_build(trial, seconds_a_block=_SLOW_S)
    for _ in range(2):
        if trial.a_moment("units", command):
            workers = _workers(trial)
            if workers:
                os.kill(trial.random.choice(workers), signal.SIGKILL)
                trial.faults += 1
    trial.check_end(command, 0)
    trial.finish()


def worker_segfaults(trial: Trial) -> None:
    """A unit takes its worker down, once."""
    command = _slow_build(trial, units={trial.unit(): "segfault"})
    trial.check_end(command, 0)
    trial.faults += 1
    trial.finish()


def worker_hangs(trial: Trial) -> None:
    """A unit hangs past its deadline, once."""
    trial.run["deadline_s"] = _DEADLINE_S
    command = _slow_build(trial, units={trial.unit(): "hang"})
    trial.check_end(command, 0)
    trial.faults += 1
    trial.finish()


def everything_suspended(trial: Trial) -> None:
    """SIGSTOP of all processes of a build for longer than its deadline, as a laptop is closed."""
    trial.run |= {"deadline_s": _DEADLINE_S, "retries": 0}
    command = _slow_build(trial, seconds_a_block=_SLOW_S)
    if trial.a_moment("units", command):
        every = trial.family.running()
        signal_all(every, signal.SIGSTOP)
        time.sleep(_DEADLINE_S + 2.0)
        signal_all(every, signal.SIGCONT)
        trial.faults += 1
    trial.check_end(command, 0)
    trial.finish()


def driver_killed(trial: Trial) -> None:
    """SIGKILL of the driver of a Ray of its own, which must leave nobody."""
    command = _slow_build(trial, seconds_a_block=_SLOW_S)
    if trial.a_moment("units", command):
        trial.faults += send(command, signal.SIGKILL)
    command.wait()
    trial.check_nobody_left(within_s=_LEFT_S)
    trial.finish()


def driver_stopped(trial: Trial) -> None:
    """Ctrl-C, SIGTERM or a closed terminal, which must leave nobody two seconds later."""
    command = _slow_build(trial, seconds_a_block=_SLOW_S)
    if trial.a_moment("units", command):
        number = trial.random.choice((signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        trial.faults += send(command, number, group=True)
    trial.check_end(command, _INTERRUPTED, 0)
    trial.check_nobody_left()
    trial.finish()


def node_killed(trial: Trial, machines: Machines, *, count: int = 1) -> None:
    """SIGKILL of one of three machines, or of two, at a random moment."""

    def kill() -> None:
        for name in trial.random.sample(sorted(machines.cpus), count):
            machines.kill(name)
            trial.afterwards.callback(machines.add, name, 1)

    _on_machines(trial, machines, kill)


def node_drained(trial: Trial, machines: Machines) -> None:
    """One of three machines is drained, as a spot machine is before it goes, and goes."""

    def drain() -> None:
        name = trial.random.choice(sorted(machines.cpus))
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "drain-node"),
            *("--address", machines.address, "--node-id", machines.node_id(name)),
            *("--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "spot"),
            *("--deadline-remaining-seconds", "3"),
        ]
        nothing = subprocess.DEVNULL
        subprocess.run(command, check=True, stdout=nothing, stderr=nothing, timeout=PATIENCE_S)
        machines.kill(name)
        trial.afterwards.callback(machines.add, name, 1)

    _on_machines(trial, machines, drain)


def _on_machines(trial: Trial, machines: Machines, fault: Callable[[], None]) -> None:
    trial.address = machines.address
    command = _slow_build(trial, seconds_a_block=_SLOW_S)
    if trial.a_moment("units", command):
        fault()
        trial.faults += 1
    trial.check_end(command, 0)
    trial.finish()


def _slow_build(trial: Trial, **orders: object) -> Driver:
    """A build of small tasks on Ray that takes long enough to be met."""
    trial.on_ray = True
    trial.run |= {"units_per_task": 2}
    trial.order(**orders)
    return trial.build()


def _workers(trial: Trial) -> list[int]:
    """The processes of the trial's workers."""
    return [pid for pid in trial.family.running() if title(pid).startswith("ray::Host")]


FAULTS: dict[str, Fault] = {
    "ray-kill-worker": worker_killed,
    "ray-segfault": worker_segfaults,
    "ray-hang": worker_hangs,
    "ray-suspend": everything_suspended,
    "ray-kill-driver": driver_killed,
    "ray-stop": driver_stopped,
}
"""Those of a Ray of its own, by name."""
MACHINE_FAULTS: dict[str, Callable[[Trial, Machines], None]] = {
    "kill-node": node_killed,
    "kill-two-nodes": lambda trial, machines: node_killed(trial, machines, count=2),
    "drain-node": node_drained,
}
"""Those that need a cluster of three machines, by name."""
