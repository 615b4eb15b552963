"""A copy of a network in memory, ready to run; the network itself stays as it is."""

from __future__ import annotations

import copy
import itertools

import torch
from torch import nn

from circuit_atlas.jobs.network.load import LoadedModel, as_loaded, refuse_unusable
from circuit_atlas.jobs.network.wrappers import unwrapped
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, one_line


def copy_model(module: nn.Module) -> LoadedModel:
    """Copies a network, in float32 and on its device, and names the copy by its class.

    Raises:
        ModelError: it is no module, is in training mode, has tensors without values, with NaN or
            infinity or on several devices, or cannot be copied.
    """
    if not isinstance(module, nn.Module):
        raise ModelError(f"model is of type {type(module).__name__!r}: give a torch.nn.Module")
    name = type(module).__name__
    training = [path for path, part in module.named_modules() if part.training]
    if training:
        which = f"its module {training[0]!r} is" if training[0] else "it is"
        raise ModelError(
            f"the model {name!r} cannot be explained while {which} in training mode, where its "
            "response depends on chance or on the batch: call model.eval() first"
        )
    refuse_unusable(module, name)
    model_device(module)
    try:
        duplicate = copy.deepcopy(module)
    except Exception as error:  # modules copy themselves as they like
        raise ModelError(
            f"the model {name!r} cannot be copied ({type(error).__name__}: {one_line(error)}), and "
            "only a copy is computed with: give one that copy.deepcopy takes"
        ) from error
    inner = unwrapped(duplicate)
    return as_loaded(inner, reference=type(inner).__name__)


def model_device(module: nn.Module) -> torch.device:
    """Finds the device of all tensors of a network, the CPU for a network without any; ModelError
    for several."""
    devices = {str(t.device) for t in itertools.chain(module.parameters(), module.buffers())}
    if len(devices) > 1:
        raise ModelError(
            f"the model's tensors lie on several devices ({listed(sorted(devices))}): move it to "
            "one, with model.to(device)"
        )
    return torch.device(devices.pop() if devices else "cpu")
