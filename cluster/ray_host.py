"""The actor that a worker lives in."""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import ray

from circuit_atlas.cluster.executor import Job, Worker
from circuit_atlas.storage_schema.heartbeat import Activity
from circuit_atlas.storage_schema.patience import outages_told
from circuit_atlas.storage_schema.records import Receipt

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

_NODE_LABEL = "ray.io/node-id"
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# A method of such a group is answered while a task runs. Tasks then leave the main thread, and the
# arenas that glibc has for other threads keep no large block: a backward pass through SqueezeNet
# cost some 10,000 page faults, and none with one arena for all threads, as on the main thread.
_ASIDE = "aside"
_ARENAS = {"MALLOC_ARENA_MAX": "1"}


class Host:
    """The actor: it says where it is, opens its worker, and runs tasks."""

    _worker: Worker

    def place(self) -> str:
        """Says on which machine this is, by its node's id."""
        return str(ray.get_runtime_context().get_node_id())

    def open(self, job: Job) -> str:
        """Opens the worker, and says its name. In a method, so that an error from there arrives as
        itself."""
        self._worker = job.open()
        return self._worker.progress.worker

    def run(self, task: Task) -> tuple[Receipt, ...]:
        """Runs a task as `Worker.run` does. Who looks on is told where it waits for the store."""
        with outages_told(self._worker.progress.waits):
            return self._worker.run(task)

    @ray.method(concurrency_group=_ASIDE)
    def progress(self) -> tuple[str, tuple[Receipt, ...], Activity | None]:
        """Says the worker's name, which units of its task have ended, and what it is at."""
        progress = self._worker.progress
        return progress.worker, progress.receipts(), progress.activity()

    @ray.method(concurrency_group=_ASIDE)
    def leave(self) -> None:
        """Ends the process at once, whatever it is at: told so directly, without the cluster's
        head."""
        os._exit(0)


_REMOTE: Any = ray.remote  # whose types do not know groups
_ACTOR: Any = _REMOTE(concurrency_groups={_ASIDE: 1})(Host)


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
        runtime_env={"env_vars": {**dict.fromkeys(_THREADS, str(threads)), **_ARENAS}},
        label_selector=elsewhere,
    )
    return actor.remote()
