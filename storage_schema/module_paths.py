"""Paths of modules and parameters, and what wrappers such as DataParallel put into them."""

from __future__ import annotations

# What DataParallel, torch.compile and FSDP call the module within.
WRAPPED = ("module", "_orig_mod", "_fsdp_wrapped_module")


def without_wrappers(path: str) -> str:
    """Leaves what wrappers call the module within out of the path of a module or a parameter.

    >>> without_wrappers("module.features._orig_mod.0.weight")
    'features.0.weight'
    """
    return ".".join(part for part in path.split(".") if part not in WRAPPED)
