"""The actor that a worker lives in."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import ray

from circuit_atlas.cluster.executor import Job, Worker
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

_NODE_LABEL = "ray.io/node-id"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


class Host:
    """The actor: it says where it is, opens its worker, and runs tasks."""

    _worker: Worker

    def place(self) -> str:
        """Says on which machine this is, by its node's id."""
        return str(ray.get_runtime_context().get_node_id())

    def open(self, job: Job) -> tuple[Receipt, ...]:
        """Opens the worker. In a method, so that an error from there arrives as itself."""
        self._worker = job.open()
        return ()

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Runs a task as `Worker.run` does."""
        return self._worker.run(task)


_ACTOR: Any = ray.remote(Host)


def start_host(*, threads: int, gpus: int, avoided: Collection[str]) -> Any:
    """Starts an actor, of so many CPUs and GPUs, that Ray neither restarts nor retries.

    Args:
        threads: CPUs that it takes, and threads that it computes with.
        gpus: GPUs that it takes.
        avoided: machines where it must not be, by their nodes' ids.
    """
    elsewhere = {_NODE_LABEL: f"!in({','.join(sorted(avoided))})"} if avoided else None
    actor = _ACTOR.options(
        num_cpus=threads,
        num_gpus=gpus,
        max_restarts=0,
        max_task_retries=0,
        # Read once, when torch and its libraries load: so it must stand there before.
        runtime_env={"env_vars": dict.fromkeys(_THREADS, str(threads))},
        label_selector=elsewhere,
    )
    return actor.remote()
