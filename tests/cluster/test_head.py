"""The head of a Ray cluster that is gone: told in time, waited for, and gone on without."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from ray.exceptions import AuthenticationError, RayError, RpcError

from circuit_atlas.cluster import ray_executor, ray_head
from circuit_atlas.cluster.ray_executor import RayExecutor
from circuit_atlas.cluster.ray_head import SILENCE_S, Head, HeadLostError
from circuit_atlas.storage_schema.errors import InfrastructureError
from tests.changing_cluster import Run, changing_cluster


class Asked:
    """A head that does not exist: what it answers, and the time."""

    def __init__(self) -> None:
        self.error: RayError | None = None
        self.now_s = 100.0

    def __call__(self) -> list[dict[str, Any]]:
        if self.error is not None:
            raise self.error
        return [{"NodeID": "a"}]

    def head(self) -> Head:
        return Head(self, clock=lambda: self.now_s)


def test_a_head_that_is_silent_is_waited_for_and_then_lost() -> None:
    asked = Asked()
    head = asked.head()
    assert head.machines() == [{"NodeID": "a"}]
    asked.error = RpcError("Timed out while waiting for GCS to become available.")
    asked.now_s += SILENCE_S
    assert head.machines() is None
    assert head.is_silent
    head.check()
    asked.now_s += 1.0
    with pytest.raises(HeadLostError, match=r"^the head of the Ray .* for 41 s"):
        head.check()
    # It was the same one, and comes back with what it knew.
    asked.error = None
    assert head.machines() is not None
    assert not head.is_silent
    head.check()


def test_another_head_in_its_place_is_told_at_once() -> None:
    asked = Asked()
    head = asked.head()
    asked.error = AuthenticationError("RPC error: WrongClusterID: Perhaps the client is")
    assert head.machines() is None
    with pytest.raises(HeadLostError, match="was started anew, and knows none of its workers"):
        head.check()


def test_a_cluster_that_does_not_come_back_ends_a_run_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_executor, "_KNOCK_EVERY_S", 0.01)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    executor = RayExecutor(f"127.0.0.1:{port}", patience_s=0.05)
    lost = HeadLostError("the head of the Ray cluster was started anew")
    with pytest.raises(HeadLostError):
        executor._reconnect(lost)  # of somebody else's connection
    executor._is_own = True
    with pytest.raises(InfrastructureError) as caught:
        executor._reconnect(lost)
    assert str(caught.value) == (
        f"the head of the Ray cluster was started anew, and there is none at '127.0.0.1:{port}' "
        "after 0.05 s; what is committed stays: run the same command again once the cluster is back"
    )


@pytest.mark.ray
def test_a_run_goes_on_when_its_cluster_is_started_anew(private_home: Path, tmp_path: Path) -> None:
    units = 60
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with contextlib.ExitStack() as runs:
        with changing_cluster(private_home, port=port) as machines:
            machines.add("first", 1)
            run = runs.enter_context(
                contextlib.closing(Run(machines.address, tmp_path, units=units))
            )
            run.until("done")
        with changing_cluster(private_home, port=port) as machines:
            machines.add("second", 1)
            run.until("head")
            assert run.end() == 0
    assert run.said("head") == [
        "head the head of the Ray cluster was started anew, and knows none of its workers"
    ]
    done = [unit for line in run.said("done") for unit in line.split()[1:]]
    assert Counter(done) == Counter(map(str, range(units)))


def test_what_the_cluster_has_is_summed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [
        {"NodeID": "a", "Alive": True, "Resources": {"CPU": 4.0, "GPU": 1.0}},
        {"NodeID": "b", "Alive": True, "Resources": {"CPU": 2.0}},
        {"NodeID": "c", "Alive": False, "Resources": {"CPU": 8.0}},
    ]
    monkeypatch.setattr(ray_head, "list_machines", lambda: machines)
    assert ray_head.cluster_resources() == {"CPU": 6.0, "GPU": 1.0}
