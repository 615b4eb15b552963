"""The machines of a cluster: which live, how many workers each has room for, and which fail.

A machine on which workers fail to start is left alone for a while, longer each time, and holds up
nobody elsewhere. One that dies is forgotten: where it comes back, it is a new one to Ray.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# How old the picture of the cluster may be. A thousand machines take Ray some time to list.
_LOOK_S = 2.0
# How long a machine is left alone that has failed once, and at most.
_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class _Failing:
    """How often in a row workers have failed to start, and until when none is to."""

    times: int
    until_s: float


class Machines:
    """The machines of the cluster that this process is connected to, each known by its node's id.

    Args:
        threads: CPUs that a worker takes.
        gpus: GPUs that a worker takes.
        list_nodes: gives "NodeID", "Alive" and "Resources" of each; None where nobody answers.
        clock: gives seconds. Default: `time.monotonic`.
    """

    def __init__(
        self,
        *,
        threads: int,
        gpus: int,
        list_nodes: Callable[[], list[dict[str, Any]] | None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._threads = threads
        self._gpus = gpus
        self._list_nodes = list_nodes
        self._clock = clock
        self._slots: dict[str, int] = {}
        # None stands for all: a worker's process did not come up, nobody knows where.
        self._failing: dict[str | None, _Failing] = {}
        self._lost_s = float("-inf")
        self.seen_s = float("-inf")
        """When the cluster was last looked at, on the clock."""

    def now_s(self) -> float:
        """Gives the time on the clock."""
        return self._clock()

    def look(self, *, within_s: float = _LOOK_S) -> None:
        """Looks at the cluster, unless that was done within so many seconds. Default: 2. Where
        nobody answers, what was seen last counts."""
        now_s = self._clock()
        if now_s - self.seen_s < within_s:
            return
        nodes = self._list_nodes()
        if nodes is None:
            return
        before = self._slots.keys()
        self._slots = {
            node["NodeID"]: self._slots_of(node["Resources"]) for node in nodes if node["Alive"]
        }
        self.seen_s = now_s
        if before - self._slots.keys():
            self._lost_s = now_s
        for node in [n for n in self._failing if n is not None and n not in self._slots]:
            del self._failing[node]

    def lost_since(self, node: str | None, since_s: float) -> bool:
        """Says whether a machine on which something was under way since then is gone; of None, any
        machine."""
        if node is None:
            return self._lost_s > since_s
        return self.seen_s > since_s and node not in self._slots

    def slots(self, node: str) -> int:
        """Says how many workers fit on a machine, at least one; looks where it is a new one."""
        if node not in self._slots:
            self.look(within_s=0)
        return max(1, self._slots.get(node, 1))

    def room(self, staff: Mapping[str, int]) -> int:
        """Says how many workers the cluster has room for; of a machine that is left alone, only
        those that are there count.

        Args:
            staff: how many workers each machine has.
        """
        alone = self.left_alone()
        if None in alone:
            return sum(staff.values())
        return sum(
            min(slots, staff.get(node, 0)) if node in alone else slots
            for node, slots in self._slots.items()
        )

    def left_alone(self) -> frozenset[str | None]:
        """Gives the machines on which no worker is to start now; None among them stands for all."""
        now_s = self._clock()
        return frozenset(n for n, failing in self._failing.items() if now_s < failing.until_s)

    def failed(self, node: str | None) -> None:
        """Notes that a worker failed to start there; None where that is not known."""
        before = self._failing.get(node)
        now_s = self._clock()
        if before is not None and now_s < before.until_s:
            return  # one of several that started together
        times = 1 if before is None else before.times + 1
        pause_s = min(_PAUSE_S * 2.0 ** min(times - 1, 10), _LONGEST_PAUSE_S)
        self._failing[node] = _Failing(times, now_s + pause_s)

    def started(self, node: str) -> None:
        """Notes that a worker has started there."""
        self._failing.pop(node, None)
        self._failing.pop(None, None)

    def hopeless(self) -> bool:
        """Says whether workers have failed to start on every machine that has room for one."""
        fit = [node for node, slots in self._slots.items() if slots]
        return None in self._failing or (bool(fit) and all(node in self._failing for node in fit))

    def _slots_of(self, resources: Mapping[str, float]) -> int:
        slots = resources.get("CPU", 0) // self._threads
        if self._gpus:
            slots = min(slots, resources.get("GPU", 0) // self._gpus)
        return int(slots)
