"""What is known of a cluster's machines: their room, their failures, their loss."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from circuit_atlas.cluster.machines import Machines


@dataclass
class Cluster:
    """A cluster that does not exist: the CPUs and GPUs of each machine, and the time."""

    nodes: dict[str, tuple[float, float]] = field(default_factory=dict)
    now_s: float = 100.0
    looks: int = 0

    def list_nodes(self) -> list[dict[str, Any]]:
        self.looks += 1
        gone = {"NodeID": "gone", "Alive": False, "Resources": {}}
        alive = [
            {"NodeID": name, "Alive": True, "Resources": {"CPU": cpus, "GPU": gpus}}
            for name, (cpus, gpus) in self.nodes.items()
        ]
        return [gone, *alive]

    def machines(self, *, threads: int = 1, gpus: int = 0) -> Machines:
        machines = Machines(
            threads=threads, gpus=gpus, list_nodes=self.list_nodes, clock=lambda: self.now_s
        )
        machines.look()
        return machines


@pytest.mark.parametrize(
    ("threads", "gpus", "room"),
    [(1, 0, 14), (4, 0, 2), (1, 1, 3), (4, 1, 2), (16, 0, 0)],
)
def test_a_worker_fits_on_one_machine(threads: int, gpus: int, room: int) -> None:
    """Four CPUs of two machines are not room for a worker of four."""
    cluster = Cluster({"a": (6, 1), "b": (5, 2), "c": (3, 0), "head": (0, 0)})
    machines = cluster.machines(threads=threads, gpus=gpus)
    assert machines.room({}) == room
    assert machines.slots("b") == {(1, 0): 5, (1, 1): 2}.get((threads, gpus), 1)


def test_the_cluster_is_looked_at_every_two_seconds() -> None:
    cluster = Cluster({"a": (1, 0)})
    machines = cluster.machines()
    cluster.nodes["b"] = (4, 0)
    cluster.now_s += 1.0
    machines.look()
    assert (machines.room({}), cluster.looks) == (1, 1)
    cluster.now_s += 1.0
    machines.look()
    assert (machines.room({}), cluster.looks) == (5, 2)
    cluster.nodes["c"] = (3, 0)
    assert machines.slots("c") == 3, "a worker's memory depends on it"


def test_a_machine_that_fails_is_left_alone_longer_each_time() -> None:
    cluster = Cluster({"a": (2, 0), "b": (3, 0)})
    machines = cluster.machines()
    pauses = []
    for _ in range(10):
        machines.failed("a")
        machines.failed("a")  # the other of two that started together
        assert machines.left_alone() == {"a"}
        assert machines.room({}) == 3
        assert machines.room({"a": 1, "b": 3}) == 4, "who works there goes on"
        began_s = cluster.now_s
        while machines.left_alone():
            cluster.now_s += 1.0
        pauses.append(cluster.now_s - began_s)
        assert machines.room({}) == 5
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    machines.started("a")
    machines.failed("a")
    cluster.now_s += 2.0
    assert not machines.left_alone()


def test_hope_is_a_machine_that_has_not_failed() -> None:
    cluster = Cluster({"a": (2, 0), "head": (0, 0)})
    machines = cluster.machines()
    assert not machines.hopeless()
    machines.failed("a")
    assert machines.hopeless()
    cluster.nodes["b"] = (1, 0)
    machines.look(within_s=0)
    assert not machines.hopeless()
    del cluster.nodes["a"], cluster.nodes["b"]
    machines.look(within_s=0)
    assert not machines.hopeless(), "machines may come back"


def test_a_start_that_failed_nowhere_in_particular_holds_up_all() -> None:
    cluster = Cluster({"a": (2, 0), "b": (3, 0)})
    machines = cluster.machines()
    machines.failed(None)
    assert machines.hopeless()
    assert machines.room({"a": 1}) == 1
    cluster.now_s += 2.0
    assert machines.room({"a": 1}) == 5
    machines.started("b")
    assert not machines.hopeless()


def test_a_machine_is_lost_when_a_later_look_misses_it() -> None:
    cluster = Cluster({"a": (1, 0), "b": (1, 0)})
    machines = cluster.machines()
    began_s = cluster.now_s
    del cluster.nodes["a"]
    cluster.now_s += 5.0
    assert not machines.lost_since("a", began_s)
    machines.look()
    assert machines.lost_since("a", began_s)
    assert not machines.lost_since("b", began_s)
    assert machines.lost_since(None, began_s), "one of them is gone"
    assert not machines.lost_since(None, cluster.now_s)
