"""The actors of one run on Ray: hired, given tasks, watched, and dismissed.

An actor is placed on a machine, which Ray chooses; opens its worker there; and runs tasks.
"""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from circuit_atlas.cluster.executor import Job
from circuit_atlas.cluster.machines import Machines
from circuit_atlas.cluster.ray_duty import Duty, Ended
from circuit_atlas.cluster.ray_head import cluster_resources
from circuit_atlas.cluster.ray_host import start_host
from circuit_atlas.cluster.ray_losses import Losses
from circuit_atlas.cluster.retries import Policy, late, one_line, retryable
from circuit_atlas.storage_schema.errors import InfrastructureError, WorkerLostError

if TYPE_CHECKING:
    from circuit_atlas.jobs.tasks.plan import Task

# How often the driver looks at deadlines when nothing happens.
_TICK_S = 0.5
# How often an actor is told to end that does not: a process may take seconds to start.
_KILLS = 60
# Without a head, none is placed any more.
_DIRECT_KILLS = 4


class Crew:
    """The actors of one run.

    Args:
        job: what each opens its worker from.
        machines: where they may be.
        policy: for how long a start and a task may take, and how many starts may fail.
        threads: CPUs that each takes, and threads that it computes with.
        gpus: GPUs that each takes.
        most: how many there can be in all. Default: any number.
    """

    def __init__(
        self,
        job: Job,
        machines: Machines,
        policy: Policy,
        *,
        threads: int,
        gpus: int,
        most: int | None = None,
    ) -> None:
        self._threads = threads
        self._gpus = gpus
        self._job = job
        self._stored_jobs: dict[int, Any] = {}
        self._machines = machines
        self._policy = policy
        self._most = most
        self._placing: dict[Any, Duty] = {}
        self._opening: dict[Any, Duty] = {}
        self._working: dict[Any, Duty] = {}
        # With its machine, and the layer of its last task.
        self._idle: list[tuple[Any, str, str | None]] = []
        self._names: dict[Any, str] = {}
        self._losses = Losses(machines)
        # Dismissed before they were placed: Ray may be told too early.
        self._leaving: dict[Any, Any] = {}
        self._avoided: frozenset[str | None] = frozenset()
        self._failed_starts = 0
        self._alone_since_s = self._looked_s = self._machines.now_s()

    @property
    def ready(self) -> int:
        """How many have loaded the model."""
        return len(self._idle) + len(self._working)

    @property
    def idle(self) -> int:
        """How many wait for a task."""
        return len(self._idle)

    @property
    def layer(self) -> str | None:
        """The layer that the next to get a task has at hand; IndexError where none is idle."""
        return self._idle[-1][2]

    @property
    def opening(self) -> int:
        """How many are on a machine and load the model."""
        return len(self._opening)

    @property
    def busy(self) -> bool:
        """Whether a task is under way, or lost in a way that is not clear yet."""
        return bool(self._working) or self._losses.tasks > 0

    def room(self) -> int:
        """Says for how many the cluster has room, those that are there included."""
        placed = [duty.node for part in (self._opening, self._working) for duty in part.values()]
        staff = Counter(node for node in placed if node is not None)
        staff.update(node for _, node, _ in self._idle)
        return self._machines.room(staff)

    def hire(self, starting: int) -> None:
        """Has so many start in all: more are hired, or some that are not placed yet dismissed.

        None starts on a machine that is left alone.
        """
        avoided = self._machines.left_alone()
        if avoided != self._avoided:
            self._leave(len(self._placing))
            self._avoided = avoided
        # Nor is one replaced before it is clear whether its machine is to be left alone.
        under_way = len(self._placing) + len(self._opening) + self._losses.starts
        missing = starting - under_way
        self._leave(min(-missing, len(self._placing)))
        if missing <= 0 or None in avoided:
            return
        nodes = [node for node in avoided if node is not None]
        for _ in range(missing):
            actor = start_host(threads=self._threads, gpus=self._gpus, avoided=nodes)
            self._placing[actor.place.remote()] = Duty(actor, None, None, self._machines.now_s())

    def assign(self, task: Task) -> str:
        """Gives an idle actor a task, and returns the worker's name."""
        actor, node, _ = self._idle.pop()
        self._working[actor.run.remote(task)] = Duty(actor, node, task, self._machines.now_s())
        return self._names[actor]

    def at_work(self) -> list[tuple[Any, Task]]:
        """Gives the actors that are at a task, with the task."""
        duties = self._working.values()
        return [(duty.actor, duty.task) for duty in duties if duty.task is not None]

    def ended(self) -> list[Ended]:
        """Waits for a moment; gives what ended, was lost, or is late.

        Raises:
            AtlasError: what a worker raised that every worker would.
            InfrastructureError: no worker lives, and none can start.
        """
        ended = [each for reference in self._arrived() for each in self._arrive(reference)]
        now_s = self._machines.now_s()
        if now_s - self._looked_s >= _TICK_S:
            self._looked_s = now_s
            ended += self._late(now_s)
            self._press()
        for loss in self._losses.settled():
            ended.append(self._lost(loss.duty, loss.error, machine=loss.machine))
        if self.ready:
            self._alone_since_s = now_s
            self._failed_starts = 0
        elif not self._opening and now_s - self._alone_since_s > self._policy.start_s:
            raise WorkerLostError(
                f"no worker started within {self._policy.start_s:g} s; the cluster has "
                f"{one_line(str(cluster_resources()))}; ask for less under [run], or add "
                "machines"
            )
        return ended

    def under_way(self) -> list[tuple[Task, str]]:
        """Gives the tasks that are not ended, with their workers' names: those at work, and those
        that were lost in a way that is not clear yet."""
        duties = [*self._working.values(), *self._losses.duties]
        return [(duty.task, self._names[duty.actor]) for duty in duties if duty.task is not None]

    def dismiss(self, *, directly: bool = False) -> None:
        """Ends every actor at once; what they have committed stays.

        Args:
            directly: tells them so without the cluster's head, which is gone. Default: not.
        """
        for actor, _, _ in self._idle:
            ray.kill(actor)
        if directly:
            placed = [*self._opening.values(), *self._working.values()]
            for actor in [*(duty.actor for duty in placed), *(idle[0] for idle in self._idle)]:
                actor.leave.remote()
        self._leave(len(self._placing))
        for part in (self._opening, self._working):
            self._leaving.update({reference: duty.actor for reference, duty in part.items()})
        for _ in range(_DIRECT_KILLS if directly else _KILLS):
            self._press()
            if not self._leaving:
                return
            ray.wait(list(self._leaving), num_returns=len(self._leaving), timeout=_TICK_S)

    def _arrived(self) -> list[Any]:
        """The calls that have ended, after a wait for the first."""
        calls = [*self._working, *self._opening, *self._placing]
        if not calls:
            time.sleep(_TICK_S)
            return []
        ray.wait(calls, num_returns=1, timeout=_TICK_S)
        done: list[Any] = ray.wait(calls, num_returns=len(calls), timeout=0)[0]
        return done

    def _arrive(self, reference: Any) -> list[Ended]:
        """Takes what a call gave."""
        parts = (self._working, self._opening, self._placing)
        duty = next(part for part in parts if reference in part).pop(reference)
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            ray.kill(duty.actor)
            lost = retryable(error.cause, doing=duty.text, trace=str(error))
            return [self._lost(duty, lost)]
        except RayError as error:
            ray.kill(duty.actor)
            self._losses.add(duty, error)
            return []
        if duty.node is None:
            self._open(duty.actor, str(result))
            return []
        if not self._opening:
            # Where the machine of this process loses its Ray, a process ends that has an object
            # there.
            self._stored_jobs.clear()
        layer = None if duty.task is None else duty.task.layer
        self._idle.append((duty.actor, duty.node, layer))
        if duty.task is None:
            self._machines.started(duty.node)
            self._names[duty.actor], result = result, ()
        return [Ended(duty.task, result, self._names[duty.actor])]

    def _open(self, actor: Any, node: str) -> None:
        """Has an actor open its worker, which is told how many may share its machine."""
        sharing = self._machines.slots(node)
        sharing = sharing if self._most is None else min(sharing, self._most)
        if sharing not in self._stored_jobs:
            self._stored_jobs[sharing] = ray.put(self._job.sharing(sharing))
        opened = actor.open.remote(self._stored_jobs[sharing])
        self._opening[opened] = Duty(actor, node, None, self._machines.now_s())

    def _late(self, now_s: float) -> list[Ended]:
        """Ends the actors whose task or start takes longer than the policy has it."""
        ended = []
        limits = ((self._working, self._policy.deadline_s), (self._opening, self._policy.start_s))
        for part, limit_s in limits:
            for reference, duty in list(part.items()):
                if now_s - duty.since_s > limit_s:
                    del part[reference]
                    ray.kill(duty.actor)
                    ended.append(self._lost(duty, _late(duty, self._policy)))
        return ended

    def _lost(self, duty: Duty, error: InfrastructureError, *, machine: bool = False) -> Ended:
        """Notes a loss for good; raises the error where no worker lives and none can start."""
        if duty.task is None and not machine:
            self._machines.failed(duty.node)
            self._failed_starts += 1
            many = self._failed_starts >= self._policy.failed_starts
            alone = not self.ready and not self._opening
            if many and alone and self._machines.hopeless():
                raise error
        return Ended(duty.task, error, self._names.pop(duty.actor, ""), machine)

    def _leave(self, count: int) -> None:
        """Dismisses so many of those that are not placed yet."""
        for reference in list(self._placing)[: max(0, count)]:
            self._leaving[reference] = self._placing.pop(reference).actor

    def _press(self) -> None:
        """Tells the leaving to end. A kill can miss an actor whose process is just starting, which
        would then hold its CPUs for ever. Its call fails once it is gone."""
        if not self._leaving:
            return
        for actor in self._leaving.values():
            ray.kill(actor)
        done, _ = ray.wait(list(self._leaving), num_returns=len(self._leaving), timeout=0)
        for reference in done:
            del self._leaving[reference]


def _late(duty: Duty, policy: Policy) -> InfrastructureError:
    if duty.task is not None:
        return late(duty.task, policy)
    return WorkerLostError(f"a worker could not start within {policy.start_s:g} s")
