"""A Ray of the tests' own, one start a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def own_ray(private_home: Path) -> Iterator[None]:
    """Connected to a Ray with two CPUs, which ends with the module."""
    from circuit_atlas.cluster.ray_executor import RayExecutor

    with RayExecutor("local", workers=2, temp_dir=private_home / "r"):
        yield
