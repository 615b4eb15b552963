"""A Ray cluster of several machines on this one, that come, die and fail while a run goes on.

`python -m tests.changing_cluster` lets a run grow from 1 worker to 12 and shrink to 3, and prints
when each number was at work. It takes some 40 s of processor time.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from ray.cluster_utils import Cluster

from circuit_atlas.cluster.process import environment, sigterm_kept
from tests.patience import PATIENCE_S, START_S, until

_TOY = Path(__file__).with_name("cluster")
_MEMORY_BYTES = 80 * 2**20
# Ray's own 15 s until a machine that was killed is given up would be most of a test.
_HEALTH = {
    "health_check_initial_delay_ms": 1000,
    "health_check_period_ms": 1000,
    "health_check_failure_threshold": 3,
}
_PROGRAM = """
import pathlib, sys
sys.path.insert(0, sys.argv[1])
import toy
from ray import cloudpickle
from circuit_atlas.cluster import ray_losses
from circuit_atlas.cluster.executor import HeadLost, StartFailed, TaskDone, TaskLost, WorkersReady
from circuit_atlas.cluster.ray_executor import RayExecutor
from circuit_atlas.cluster.retries import Policy

cloudpickle.register_pickle_by_value(toy)
# A busy Ray takes longer to miss a machine than the workers on it.
ray_losses._OUTLIVES_S = 6.0
address, log, units, most = sys.argv[2], pathlib.Path(sys.argv[3]), *map(int, sys.argv[4:])
job = toy.ToyJob(log, {unit: "steady" for unit in range(units)})
blocks = [tuple(range(first, first + 4)) for first in range(0, units, 4)]
with RayExecutor(address, max_workers=most) as executor:
    for event in executor.run(toy.tasks(*blocks), job, policy=Policy(retries=0)):
        if isinstance(event, TaskDone):
            print("done", *(key.unit for key in event.task.units), flush=True)
        elif isinstance(event, TaskLost):
            print("lost", event.will_retry, event.error, flush=True)
        elif isinstance(event, StartFailed):
            print("start", event.error, flush=True)
        elif isinstance(event, HeadLost):
            print("head", event.error, flush=True)
        elif isinstance(event, WorkersReady):
            print("ready", event.count, flush=True)
"""


class Machines:
    """Machines of a cluster, by name. A worker on one sees its name as TOY_MACHINE."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._nodes: dict[str, Any] = {}
        self.cpus: dict[str, int] = {}
        self.address: str = cluster.address

    def add(self, name: str, cpus: int) -> None:
        """Start a machine and wait until it belongs to the cluster."""
        self.cpus[name] = cpus
        self._nodes[name] = self._cluster.add_node(
            num_cpus=cpus, object_store_memory=_MEMORY_BYTES, env_vars={"TOY_MACHINE": name}
        )

    def node_id(self, name: str) -> str:
        """Ray's name of a machine."""
        return str(self._nodes[name].node_id)

    def kill(self, name: str) -> None:
        """End a machine at once, as a power cut does."""
        del self.cpus[name]
        self._cluster.remove_node(self._nodes.pop(name), allow_graceful=False)


@contextlib.contextmanager
def changing_cluster(home: Path, *, port: int = 0) -> Iterator[Machines]:
    """A cluster whose head has room for no worker; it answers at `port`, or at any."""
    # There Ray notes the address, in a folder that only a Ray without one of its own would make.
    (home / "ray").mkdir(exist_ok=True)
    with sigterm_kept():
        with environment({"RAY_TMPDIR": str(home)}):
            cluster = Cluster(
                initialize_head=True,
                head_node_args={
                    "num_cpus": 0,
                    "include_dashboard": False,
                    "object_store_memory": _MEMORY_BYTES,
                    "temp_dir": str(home / "c"),
                    "gcs_server_port": port or None,
                    "_system_config": _HEALTH,
                },
            )
        try:
            yield Machines(cluster)
        finally:
            cluster.shutdown()


class Run:
    """A run in a process of its own, of blocks of four units that take .4 s each."""

    def __init__(self, address: str, log: Path, *, units: int, most: int = 0) -> None:
        arguments = [str(_TOY), address, str(log), str(units), str(most)]
        self._log = log
        self._child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self.errors = ""
        self._readers = [
            threading.Thread(target=each, daemon=True) for each in (self._read, self._read_errors)
        ]
        for reader in self._readers:
            reader.start()

    def said(self, start: str) -> list[str]:
        """The lines that begin so."""
        return [line for line in self.lines if line.startswith(start)]

    def until(self, start: str, *, within_s: float = START_S) -> None:
        """Wait for a line that begins so."""
        until(lambda: self.said(start) or self._child.poll(), start, within_s=within_s)
        assert self.said(start), self.errors

    def end(self) -> int:
        """Let the rest take no time, and wait for the end; the exit code."""
        (self._log / "hurry").touch()
        code = self._child.wait(START_S)
        self.close()
        return code

    def close(self) -> None:
        """End the process, if it has not ended."""
        if self._child.poll() is None:
            self._child.kill()
        for reader in self._readers:
            reader.join(PATIENCE_S)
        self._child.wait(PATIENCE_S)

    def _read(self) -> None:
        assert self._child.stdout is not None
        with self._child.stdout as lines:
            for line in lines:
                self.lines.append(line.rstrip("\n"))

    def _read_errors(self) -> None:
        assert self._child.stderr is not None
        with self._child.stderr as errors:
            self.errors = errors.read()


def _grow_and_shrink(home: Path) -> None:
    """Print when a run has 1, 12 and 3 workers at work, as machines come and are killed."""
    log = home / "log"
    log.mkdir()

    def at_work(since_s: float) -> int:
        """How many processes have begun a unit since then."""
        recent = [path.name.split("-") for path in log.glob("unit*") if path.exists()]
        return len({pid for _, pid, begun_ns, _ in recent if int(begun_ns) / 1e9 > since_s})

    with changing_cluster(home) as machines:
        machines.add("first", 1)
        with contextlib.closing(Run(machines.address, log, units=2400)) as run:
            run.until("done")
            for change in (
                lambda: [machines.add(f"more{cpus}", cpus) for cpus in (2, 4, 5)],
                lambda: [machines.kill(f"more{cpus}") for cpus in (4, 5)],
            ):
                change()
                began_s = time.monotonic()
                wanted = sum(machines.cpus.values())
                until(
                    lambda wanted=wanted: at_work(time.monotonic() - 2.0) == wanted,
                    f"{wanted} workers",
                    within_s=START_S,
                )
                click.echo(f"{wanted} workers at work after {time.monotonic() - began_s:.1f} s")
            code = run.end()
            done = [unit for line in run.said("done") for unit in line.split()[1:]]
            click.echo(f"exit code {code}; {len(done)} units done, {len(set(done))} of them once")
            click.echo("\n".join(run.said("lost")) or "nothing lost")
            click.echo(f"stderr: {run.errors!r}")


if __name__ == "__main__":
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ca") as folder:
        patch.setenv("HOME", folder)
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        _grow_and_shrink(Path(folder))
