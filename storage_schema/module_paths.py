"""Paths of modules and parameters, their order, and what wrappers such as DataParallel put into
them."""

from __future__ import annotations

import re

# What DataParallel, torch.compile and FSDP call the module within.
WRAPPED = ("module", "_orig_mod", "_fsdp_wrapped_module")


def without_wrappers(path: str) -> str:
    """Leaves what wrappers call the module within out of the path of a module or a parameter.

    >>> without_wrappers("module.features._orig_mod.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in path.split(".") if part not in WRAPPED)


def number_order(path: str) -> tuple[str | int, ...]:
    """Gives what paths are sorted by so that their numbers count as numbers.

    >>> sorted(["features.10", "features.9.squeeze"], key=number_order)
    ['features.9.squeeze', 'features.10']
    """
    parts = enumerate(re.split(r"(\d+)", path))
    return tuple(int(part) if at % 2 else part for at, part in parts)
