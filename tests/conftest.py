"""One private home for the whole run of the tests, one thread, and patience."""

from __future__ import annotations

import gc
import inspect
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from hypothesis import HealthCheck, settings

from tests.patience import PATIENCE_S

pytest_plugins = ["tests.reporting", "tests.tracing"]

settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core for the whole suite and one more, as many tests wait for programs that they
    start; four at most, as each takes up to 3 GB. None beside pytest's own for a part of the suite,
    which would wait longer for their start than it takes."""
    whole = config.args == config.getini("testpaths")
    return min(4, 1 + (os.cpu_count() or 1)) if whole else 0


# Files that take longest, the longest first: one that starts last would be waited for alone.
LONGEST = (
    "tests/zoo/test_zoo.py",
    "tests/cluster/test_executors.py",
    "tests/benchmarks/test_benchmarks.py",
    "tests/cluster/test_submit.py",
    "tests/jobs/tasks/test_memory.py",
    "tests/browser/test_accessibility.py",
    "tests/jobs/scores/test_criteria.py",
    "tests/cluster/test_visualizations.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the longest files first; the others keep their order."""
    rank = {config.rootpath / name: n for n, name in enumerate(LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))


def pytest_collection_finish() -> None:
    """Keeps the garbage collector from going through thousands of tests and modules, which stay to
    the end, again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000)


@pytest.fixture(scope="session", autouse=True)
def private_home() -> Iterator[Path]:
    """A short folder that is also HOME. Not one of pytest's: their names overrun the 107 bytes of
    a socket's path. One for all modules: Ray keeps a token in HOME, and reads it once a process."""
    folder = Path(tempfile.mkdtemp(prefix="ca", dir="/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(folder))
        patch.delenv("RAY_ADDRESS", raising=False)
        yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> Iterator[None]:
    """Tests run tiny operations by the thousand, which more threads only slow down: on a busy
    two-core machine the same tests took 290 s with two threads and 13 s with one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session", autouse=True)
def patience() -> None:
    """httpx waits 5 s for an answer unless told otherwise, which all of its functions share."""
    limits: httpx.Timeout = inspect.signature(httpx.get).parameters["timeout"].default
    limits.connect = limits.read = limits.write = limits.pool = PATIENCE_S


@pytest.fixture(scope="module")
def own_ray(private_home: Path) -> Iterator[None]:
    """Connected to a Ray with two CPUs, which ends with the module."""
    from circuit_atlas.cluster.ray_executor import RayExecutor

    with RayExecutor("local", workers=2, temp_dir=private_home / "r"):
        yield
