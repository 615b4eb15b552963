"""The head of the Ray cluster that this process is connected to: asked so that it may be gone.

Ray's own functions wait for a head that is gone, end the process a minute later, and abort it where
another head has come in its place: its client for Python is the one that raises an error. A head
that comes back with its state (Redis, RocksDB) is the same one; one that was started anew is
another, which knows nothing of this process' actors.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import ray
from ray.exceptions import RayError

from circuit_atlas.cluster.retries import one_line
from circuit_atlas.storage_schema.errors import InfrastructureError

SILENCE_S = 40.0
"""For how long the head may give no answer. After a minute, Ray ends this process."""
_ANSWER_S = 5.0
_OTHER = "WrongClusterID"


class HeadLostError(InfrastructureError):
    """The head of the cluster is gone, and with it what this process knew of its actors."""

    kind = "head_lost"


class Head:
    """Whether the head answers.

    Args:
        ask: gives what `list_machines` gives. Default: that.
        clock: gives seconds. Default: `time.monotonic`.
    """

    def __init__(
        self,
        ask: Callable[[], list[dict[str, Any]]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask or list_machines
        self._clock = clock
        self._answered_s = clock()
        self._error: RayError | None = None

    @property
    def is_silent(self) -> bool:
        """Whether it gave no answer when it was asked last."""
        return self._error is not None

    def machines(self) -> list[dict[str, Any]] | None:
        """Lists the machines as `list_machines` does; None where the head gives no answer."""
        try:
            machines = self._ask()
        except RayError as error:
            self._error = error
            return None
        self._error, self._answered_s = None, self._clock()
        return machines

    def check(self) -> None:
        """Raises HeadLostError where the head has given no answer for 40 s, or is another one."""
        if self._error is None:
            return
        silent_s = self._clock() - self._answered_s
        if _OTHER in str(self._error):
            text = "was started anew, and knows none of its workers"
        elif silent_s > SILENCE_S:
            text = f"has not answered for {silent_s:.0f} s ({one_line(str(self._error))})"
        else:
            return
        raise HeadLostError(f"the head of the Ray cluster {text}") from self._error


def list_machines() -> list[dict[str, Any]]:
    """Lists the machines of the cluster: "NodeID", whether it is "Alive", and its "Resources" in
    all, by name. RayError where the head gives no answer."""
    worker: Any = ray._private.worker.global_worker
    listed = worker.gcs_client.get_all_node_info(timeout=_ANSWER_S)
    return [
        {
            "NodeID": info.node_id.hex(),
            "Alive": info.state == 0,
            "Resources": dict(info.resources_total),
        }
        for info in listed.values()
    ]


def cluster_resources() -> dict[str, float]:
    """Says what the cluster has in all, in use or not: "CPU", "GPU" and others. RayError where the
    head gives no answer."""
    total: dict[str, float] = {}
    for machine in list_machines():
        for name, count in machine["Resources"].items() if machine["Alive"] else ():
            total[name] = total.get(name, 0.0) + count
    return total
