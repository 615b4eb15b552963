"""Modules that hold a network and compute what it computes: taken off."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel

from circuit_atlas.storage_schema.module_paths import WRAPPED

_WRAPPERS = (nn.DataParallel, nn.parallel.DistributedDataParallel, AveragedModel)


def unwrapped(module: nn.Module) -> nn.Module:
    """Takes off DataParallel, torch.compile and their like, of the network and of modules in it.

    Modules within are replaced in place. A module that `module.compile()` was called on runs as it
    is written again.
    """
    module = _inner(module)
    for part in list(module.modules()):
        for name, child in list(part._modules.items()):
            if child is not None and (inner := _inner(child)) is not child:
                setattr(part, name, inner)
    for part in module.modules():
        part._compiled_call_impl = None
    return module


def _inner(module: nn.Module) -> nn.Module:
    while True:
        # Others than these may call a module so that computes something else.
        names = WRAPPED if isinstance(module, _WRAPPERS) else WRAPPED[1:]
        within = next((module._modules[name] for name in names if name in module._modules), None)
        if within is None:
            return module
        module = within
