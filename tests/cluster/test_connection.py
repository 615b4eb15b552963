"""What a RayExecutor says of an address or a device, and what it leaves behind."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest
import ray

from circuit_atlas.cluster.ray_executor import RayExecutor
from circuit_atlas.storage_schema.errors import InfrastructureError, InputError


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(InfrastructureError) as caught, RayExecutor(address):
            pass
    assert str(caught.value).startswith(f"cannot connect to a Ray at '{address}': [Errno 111]")
    assert "ray start --head" in str(caught.value)


def test_a_ray_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(InfrastructureError, match=r"^Ray does not start on .*`--executor local`$"),
        RayExecutor(workers=1, temp_dir=tmp_path / "file" / "r"),
    ):
        pass
    assert not ray.is_initialized()


def test_a_gpu_by_number_is_refused() -> None:
    with pytest.raises(InputError, match=r"^device 'cuda:1' names a GPU of one machine.*\"cuda\""):
        RayExecutor(device="cuda:1")


def test_a_far_cluster_is_for_submit() -> None:
    with pytest.raises(InputError, match=r"^address 'ray://head:10001'.*`circuit-atlas submit`"):
        RayExecutor("ray://head:10001")


@pytest.mark.ray
def test_a_ray_of_its_own_leaves_no_trace(private_home: Path) -> None:
    before = dict(os.environ), signal.getsignal(signal.SIGTERM)
    with RayExecutor(workers=3, temp_dir=private_home / "r") as executor:
        assert executor.workers == 3, "more than CPUs, where asked for"
        assert signal.getsignal(signal.SIGTERM) == before[1]
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert (dict(os.environ), signal.getsignal(signal.SIGTERM)) == before


@pytest.mark.ray
def test_a_worker_that_this_machine_has_no_room_for_is_one_line(private_home: Path) -> None:
    with (
        pytest.raises(InputError, match=r"^no worker fits on this machine: each takes 4096 CPUs"),
        RayExecutor(threads=4096, temp_dir=private_home / "r"),
    ):
        pass
    assert not ray.is_initialized()
