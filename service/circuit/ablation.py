"""A copy of a torch model in which some kernels are zero."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import Convolution
from circuit_atlas.storage_schema.module_paths import without_wrappers
from circuit_atlas.storage_schema.wording import nearest

if TYPE_CHECKING:
    from torch import nn


def require_torch(what: str) -> None:
    """Raise QueryError where torch is not installed; `what` says what a torch model is for, such as
    `a circuit is applied to`."""
    try:
        import_module("torch")
    except ModuleNotFoundError as error:
        raise QueryError(
            f"{what} a torch model, and torch is not installed: "
            "python -m pip install 'circuit-atlas[build]'"
        ) from error


def keep_only(
    model: nn.Module,
    convolutions: Sequence[Convolution],
    kept: Sequence[NDArray[np.bool_]],
) -> nn.Module:
    """Copy `model` so that, of each convolution, the kernels outside `kept` are zero.

    Args:
        model: left as it is.
        convolutions: which modules to cut; others stay whole.
        kept: of each, (out channels, in channels of a group) bool.

    Raises:
        QueryError: torch is not installed, or the model is not the one the convolutions are of.
    """
    require_torch("a circuit is applied to")
    import torch

    if not isinstance(model, torch.nn.Module):
        raise QueryError(f"give a torch.nn.Module to apply a circuit to, not {model!r}")
    fixed = [c.name for c in convolutions if c.weight is None]
    if fixed:
        raise QueryError(
            f"the weight of {fixed[0]!r} is computed anew at each call, so none of its kernels "
            "can be set to zero in a copy of the model"
        )
    result = copy.deepcopy(model)
    own = dict(result.named_parameters(remove_duplicate=False))
    parameters = {without_wrappers(name): value for name, value in own.items()} | own
    seen: dict[int, str] = {}
    for convolution, grid in zip(convolutions, kept, strict=True):
        name = str(convolution.weight)
        if name not in parameters:
            raise QueryError(
                f"this model has no {name!r}, which the circuit's model has: "
                + nearest(name, own, what="parameters")
            )
        weight = parameters[name]
        wanted = (convolution.out_channels, convolution.in_channels, *convolution.kernel_size)
        if tuple(weight.shape) != wanted:
            raise QueryError(
                f"{name!r} of this model has shape {tuple(weight.shape)} and the circuit's model "
                f"has {wanted}: give the model that the atlas was built from"
            )
        other = seen.setdefault(id(weight), convolution.name)
        if other != convolution.name:
            raise QueryError(
                f"{other!r} and {convolution.name!r} share one weight, so a kernel cannot be "
                "zero in one of them alone"
            )
        dropped = torch.from_numpy(~grid).to(weight.device)[:, :, None, None]
        with torch.no_grad():
            weight.masked_fill_(dropped, 0)
    return result
