"""The connection to a Ray: one of its own on this machine, or that of a cluster."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError

from circuit_atlas.cluster.process import (
    deaf_to_hangups,
    environment,
    interrupts_deferred,
    sigterm_kept,
)
from circuit_atlas.cluster.ray_reaper import reaped
from circuit_atlas.cluster.retries import one_line
from circuit_atlas.storage_schema.errors import InfrastructureError

# Only receipts pass through the object store; Ray's default is a third of the memory.
_OBJECT_STORE_BYTES = 256 * 2**20
_KNOCK_S = 10.0
# What Ray leaves in this process' environment, where it would reach programs started later.
_LEFT = ("RAY_AUTH_MODE", "RAY_CLIENT_MODE", "PYTHONBREAKPOINT")
# By default a Ray reports its use to its makers over the network.
_NO_REPORTS = {"RAY_USAGE_STATS_ENABLED": "0"}


@contextlib.contextmanager
def ray_session(address: str, *, cpus: int | None, temp_dir: Path | None) -> Iterator[None]:
    """Connects to a Ray, and parts from it at the end; one that was started here ends too.

    Args:
        address: as in `RayExecutor`.
        cpus: how many a local Ray has, None for what the machine has.
        temp_dir: where a local Ray keeps its sockets and logs; None for Ray's choice.

    Raises:
        InfrastructureError: there is no Ray at the address, or none starts.
    """
    with contextlib.ExitStack() as session:
        session.enter_context(environment({name: os.environ.get(name) for name in _LEFT}))
        session.enter_context(_quiet())
        marks = session.enter_context(reaped()) if address == "local" else {}
        session.callback(_shut_down)
        _connect(address, cpus=cpus, temp_dir=temp_dir, variables=marks)
        yield


def _connect(
    address: str, *, cpus: int | None, temp_dir: Path | None, variables: Mapping[str, str]
) -> None:
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        options |= {
            "num_cpus": cpus,
            "object_store_memory": _OBJECT_STORE_BYTES,
            "include_dashboard": False,
            "_temp_dir": None if temp_dir is None else str(temp_dir),
        }
    # Nobody knows the processes of a Ray that is half started; joining one starts none.
    local = interrupts_deferred() if address == "local" else contextlib.nullcontext()
    try:
        _knock(address)
        with (
            local,
            environment({**_NO_REPORTS, **variables}),
            sigterm_kept(),
            deaf_to_hangups(),
            warnings.catch_warnings(),
        ):
            # Some versions announce a change of CUDA_VISIBLE_DEVICES for workers without GPU.
            warnings.filterwarnings("ignore", category=FutureWarning, module="ray")
            ray.init(address, **options)
    except Exception as error:
        # A Ray that does not start in time raises a bare Exception.
        known = (OSError, RuntimeError, ValueError, RayError)
        if type(error) is not Exception and not isinstance(error, known):
            raise
        raise InfrastructureError(_unconnected(address, error)) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keeps out of this process' output what Ray prints there when a machine is lost: that it was,
    and the end of its log. It has no setting for that; `log_to_driver` is about workers alone."""
    printing = ray._private.worker.print_to_stdstream
    ray._private.worker.print_to_stdstream = _print_nothing
    try:
        yield
    finally:
        ray._private.worker.print_to_stdstream = printing


def _print_nothing(data: object, ignore_prefix: bool) -> None:
    del data, ignore_prefix


def _unconnected(address: str, error: Exception) -> str:
    if address == "local":
        return (
            f"Ray does not start on this machine: {one_line(str(error))}; try again when it is "
            "less busy, or do without Ray by `--executor local`"
        )
    return (
        f"cannot connect to a Ray at {address!r}: {one_line(str(error))}; "
        'start one with `ray start --head`, or use the address "local"'
    )


def _knock(address: str) -> None:
    """OSError where nobody listens at "host:port": Ray itself would try for three minutes."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_S).close()


def _shut_down() -> None:
    with interrupts_deferred():
        ray.shutdown()
