"""Why a model cannot be traced, in one line: what its code ran into, where, and the way round."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from circuit_atlas.jobs.network.entrance import takes_list
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import one_line

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)
_SPATIAL_3D = (nn.Conv3d, nn.ConvTranspose3d, nn.BatchNorm3d, nn.MaxPool3d, nn.AvgPool3d)

_CLIPS = (
    "it takes clips of several images: return a module that makes a clip of each image, such as "
    "model(x[:, :, None].expand(-1, -1, 16, -1, -1))"
)
_VALUES = (
    "what it computes depends on the values at that line, by an if or .item(): return a module "
    "without that choice, or name a layer before it"
)
_ONE_BY_ONE = (
    "it takes the images of a batch one by one, or a fixed number of them: return a module that "
    "computes them together, with x.shape[0] for their number"
)
_PRECISION = (
    "networks are computed in float32: leave the cast to another precision out, or put .float() "
    "behind it"
)
_OUTSIDE = "it leaves torch there: write it with torch's operations, or name a layer before it"
_LIST = (
    "it takes a list of images: return a module that takes a batch of them, such as its backbone"
)
_ARGUMENTS = (
    "it is called with images alone: return a module whose forward pass takes images (batch, "
    "channels, height, width) and gives the model what else it wants"
)
_DEVICE = "it has a device of its own there: write x.device, or x.new_zeros(...)"
_SIZE = "it may want images of another size or number of channels: see [preprocessing]"
_ANY_BATCH = (
    "torch.export must be able to follow it with a batch of any size: change that, give images "
    "that it takes, or name a layer before it"
)

_BATCH = r"\bs\d+\b"

# What torch says of a kind of mistake; the first that matches is told.
_HINTS = (
    (r"data-dependent|u\d+|zuf\d+", _VALUES),
    (r"Constraints violated|invalid for input of size .*\\bs\d+", _ONE_BY_ONE),
    (r"type .* should be the same|same dtype|scalar type|Half|BFloat16", _PRECISION),
    (r"\.numpy\(\)|numpy\.|PIL|data pointer|not implemented for 'FakeTensor'", _OUTSIDE),
    (r"forward\(\) (missing|takes)|too many indices for tensor of dimension 4", _ARGUMENTS),
    (r"on device .* expected device|Expected all tensors to be on the same device", _DEVICE),
    (r"is invalid for input of size|same reduction dim|size of tensor|Given groups", _SIZE),
)


def refusal(error: BaseException, model: nn.Module, images: Tensor) -> ModelError:
    """Says why a model cannot be traced, with the line of its source and the way round.

    Args:
        error: what came out of the model's code or of torch.export.
        model: the model, in eval mode.
        images: those that it was traced with, (batch, channels, height, width).
    """
    hint = _hint(error, model, images)
    where = _location(error, model)
    if hint == _ONE_BY_ONE and not where:
        # Torch finds out at the end, without a line; three images may fail in a line of the model.
        error = _error_of(model, images) or error
        where = _location(error, model)
    shape = " x ".join(str(extent) for extent in images.shape[1:])
    return ModelError(
        f"the model cannot be traced for images of {shape}: {_text(error)}{where}; {hint}"
    )


def _text(error: BaseException) -> str:
    """The error's type and text, without torch's hints to have more logged."""
    kind, text = type(error).__name__, one_line(error)
    for end in (" For more information", " consider using ", " Caused by: "):
        text = text.partition(end)[0]
    # The only symbol of a size there is the number of images.
    return kind if text == kind else f"{kind}: {re.sub(_BATCH, 'batch', text)}"


def _hint(error: BaseException, model: nn.Module, images: Tensor) -> str:
    parts = list(model.modules())
    images_3d = any(isinstance(part, _SPATIAL_3D) for part in parts)
    if images_3d and not any(isinstance(part, nn.Conv2d) for part in parts):
        return _CLIPS
    if isinstance(error, GuardOnDataDependentSymNode):
        return _VALUES
    text = one_line(error)
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, text)), "")
    if hint in ("", _ONE_BY_ONE, _ARGUMENTS) and takes_list(model, images):
        return _LIST
    return hint or _ANY_BATCH


def _error_of(model: nn.Module, images: Tensor) -> BaseException | None:
    """What the model itself raises for a batch of three images, if anything."""
    try:
        with torch.no_grad():
            model(torch.cat((images, images[:1])))
    except (Exception, SystemExit) as error:  # the forward pass is the user's code
        return error
    return None


def _location(error: BaseException, model: nn.Module) -> str:
    """The innermost line of the model's own source that the error came through, and its module."""
    frames = [
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not frame.f_code.co_filename.startswith((_TORCH, _HERE, "<"))
    ]
    if not frames:
        return ""
    frame, line = frames[-1]
    where = f"{frame.f_code.co_filename}:{line}"
    paths = {id(part): path for path, part in model.named_modules() if path}
    inside = [path for frame, _ in frames if (path := paths.get(id(frame.f_locals.get("self"))))]
    return f" (at {where}, in {inside[-1]!r})" if inside else f" (at {where})"
