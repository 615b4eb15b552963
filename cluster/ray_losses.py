"""What was lost on Ray, held back until it is clear whether its machine was lost too: Ray often
tells of the process first."""

from __future__ import annotations

from dataclasses import dataclass

from ray.exceptions import ActorUnavailableError, RayError

from circuit_atlas.cluster.machines import Machines
from circuit_atlas.cluster.ray_duty import Duty
from circuit_atlas.cluster.retries import describe, one_line
from circuit_atlas.storage_schema.errors import WorkerLostError

# How old the picture of the cluster may be by which it is told.
_LOOK_S = 0.5
# How long a machine that is lost may stay in Ray's list after its workers: where Ray knows that
# their processes have ended, and where it only cannot reach them.
_OUTLIVES_S = 2.0
_OUTLIVES_UNREACHED_S = 60.0


@dataclass(frozen=True)
class Loss:
    """A duty that was lost: alone, or with its machine."""

    duty: Duty
    error: WorkerLostError
    machine: bool


@dataclass(frozen=True)
class _Unclear:
    """A duty that was lost, and for how long its machine may seem to live."""

    duty: Duty
    error: WorkerLostError
    since_s: float
    outlives_s: float


class Losses:
    """The losses whose cause is not clear yet."""

    def __init__(self, machines: Machines) -> None:
        """Takes the machines of the cluster."""
        self._machines = machines
        self._unclear: list[_Unclear] = []

    @property
    def duties(self) -> list[Duty]:
        """What was lost."""
        return [loss.duty for loss in self._unclear]

    @property
    def starts(self) -> int:
        """How many of them are starts of workers."""
        return sum(loss.duty.task is None for loss in self._unclear)

    @property
    def tasks(self) -> int:
        """How many of them are tasks."""
        return len(self._unclear) - self.starts

    def add(self, duty: Duty, error: RayError) -> None:
        """Holds back a duty whose actor Ray no longer reaches."""
        unreached = isinstance(error, ActorUnavailableError)
        lost = WorkerLostError(
            f"{duty.text}: its process ended ({one_line(str(error))}); where memory ran out, use "
            "fewer workers or a smaller batch_size"
        )
        outlives_s = _OUTLIVES_UNREACHED_S if unreached else _OUTLIVES_S
        self._unclear.append(_Unclear(duty, lost, self._machines.now_s(), outlives_s))

    def settled(self) -> list[Loss]:
        """Gives those that have become clear."""
        if not self._unclear:
            return []
        self._machines.look(within_s=_LOOK_S)
        settled, unclear = [], []
        for loss in self._unclear:
            if self._machines.lost_since(loss.duty.node, loss.duty.since_s):
                settled.append(Loss(loss.duty, _with_machine(loss.duty), machine=True))
            elif self._machines.seen_s > loss.since_s + loss.outlives_s:
                settled.append(Loss(loss.duty, loss.error, machine=False))
            else:
                unclear.append(loss)
        self._unclear = unclear
        return settled


def _with_machine(duty: Duty) -> WorkerLostError:
    what = "a worker's start" if duty.task is None else describe(duty.task)
    return WorkerLostError(f"{what}: the machine was lost")
