"""The demo's network is traced once a process, whatever number of builds open it.

Tracing it takes over a second, and a small build opens it twice: most of the time of the tests that
build was spent on it. Networks of a test's own are traced each time, as are all in other processes.
"""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

import pytest

_MODULE = "circuit_atlas.jobs.tasks.opened_spec"
_PATCHED = pytest.StashKey[bool]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Shares graphs once something has imported what traces: this by itself imports nothing."""
    if _MODULE in sys.modules and not item.config.stash.get(_PATCHED, False):
        item.config.stash[_PATCHED] = True
        _share(sys.modules[_MODULE].OpenedSpec)


def _share(opened_spec: Any) -> None:
    traced = opened_spec._traced
    graphs: dict[Any, Any] = {}

    @wraps(traced)
    def once(self: Any, size: tuple[int, int]) -> Any:
        if not self.spec.model.reference.startswith("demo:"):
            return traced(self, size)
        model = self.spec.model.model_dump_json()
        key = (model, self.weights_sha256, self.images.channels, size, self.device)
        if key not in graphs:
            graphs[key] = traced(self, size)
        return graphs[key]

    opened_spec._traced = once
