"""Networks that are known by heart are traced once a process, whatever number of builds open them.

Tracing takes a second, and a small build does it twice: most of the time of the tests that build
was spent on it. Known are the demo's network and those made of torch's own modules alone, by what
they print and the digest of their weights. All others are traced each time, as are all in other
processes.
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
        demo = self.spec.model.reference.startswith("demo:")
        if not demo and not _is_torchs_own(self._module):
            return traced(self, size)
        model = self.spec.model.model_dump_json() if demo else repr(self._module)
        key = (model, self.weights_sha256, self.images.channels, size, self.device)
        if key not in graphs:
            graphs[key] = traced(self, size)
        return graphs[key]

    opened_spec._traced = once


def _is_torchs_own(network: Any) -> bool:
    """Whether a network prints all that it does: it has no code of a test's, and no hooks."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_parametrizations", "parametrizations")
    return all(
        type(module).__module__.startswith("torch.nn.modules.")
        and "forward" not in vars(module)
        and not any(getattr(module, name, None) for name in hooks)
        for module in network.modules()
    )
