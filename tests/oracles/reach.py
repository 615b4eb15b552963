"""Which kernels can reach a unit, by trying: change a kernel and see whether the unit's map moves.

Reach is a matter of the network's wiring, not of its values: so every parameter is drawn anew, and
functions that are flat somewhere give way to others that depend on the same inputs and never are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.oracles.convolutions import ConvCall, Masks, convolutions, double, layer_output, unit_map

_DRAWS = 3
"""A kernel counts as cut off when its change does nothing under any of these draws."""

_MOVED = 1e-11
"""Of the map's largest value: far above float64 rounding, far below what any real path gives."""


def reach(model: nn.Module, image: Tensor, layer: str, unit: int | tuple[float, ...]) -> Masks:
    """Of each convolution a pass runs, in that order, which kernels can change the unit's map.

    `image` (3, H, W) only gives the size. bool, (out channels, in channels of a group) each.
    """
    found: Masks = {
        name: torch.zeros(weight.shape[:2], dtype=torch.bool)
        for name, weight in convolutions(model, image).items()
    }
    for draw in range(_DRAWS):
        generator = torch.Generator().manual_seed(draw)
        redrawn = double(model)
        redraw(redrawn, generator, low=-1.0)
        picture = torch.rand(image.shape, generator=generator, dtype=torch.float64)
        before = _unit_map(redrawn, picture, layer, unit, None)
        for name, reached in found.items():
            for out, column in (~reached).nonzero().tolist():
                after = _unit_map(redrawn, picture, layer, unit, (name, out, column))
                moved = (after - before).abs().max() > _MOVED * before.abs().max()
                reached[out, column] = bool(moved)
    return found


def redraw(model: nn.Module, generator: torch.Generator, *, low: float) -> None:
    """Gives every parameter another value, none near zero, and makes running statistics neutral.

    All are positive for `low` 0, of either sign for `low` -1; scaled so that maps keep their size.
    """
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            size = torch.rand(parameter.shape, generator=generator, dtype=torch.float64) * 0.8 + 0.2
            if low < 0:
                signs = torch.rand(parameter.shape, generator=generator, dtype=torch.float64)
                size = torch.where(signs < 0.5, -size, size)
            if parameter.dim() > 1:
                size = size / (0.5 * parameter[0].numel()) ** (0.5 if low < 0 else 1)
            elif name == "bias":
                size = 0.1 * size
            parameter.data.copy_(size)
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_var is not None:
            assert module.running_mean is not None
            module.running_mean.zero_()
            module.running_var.fill_(1.0)


def _unit_map(
    model: nn.Module,
    image: Tensor,
    layer: str,
    unit: int | tuple[float, ...],
    changed: tuple[str, int, int] | None,
) -> Tensor:
    def run(call: ConvCall) -> Tensor:
        weight = call.weight
        if changed is not None and changed[0] == call.name:
            weight = weight.clone()
            kernel = weight[changed[1], changed[2]]
            kernel += 1.0 + torch.arange(kernel.numel()).reshape(kernel.shape) / kernel.numel()
        return call.run(weight)

    with torch.no_grad():
        return unit_map(layer_output(model, image, layer, run, NEVER_FLAT), unit)


def _smooth(x: Tensor, *_args: Any, **_kwargs: Any) -> Tensor:
    """Strictly increasing everywhere, and near the identity."""
    return x + 0.5 * torch.sin(x)


def _average(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    if dilation not in (1, (1, 1)) or return_indices:
        raise ValueError("no stand-in for a max-pool with dilation or indices")
    return functional.avg_pool2d(x, kernel_size, stride, padding, ceil_mode)


NEVER_FLAT: dict[Callable[..., Any], Callable[..., Any]] = {
    **dict.fromkeys(
        (
            functional.relu,
            torch.relu,
            torch.relu_,
            Tensor.relu,
            Tensor.relu_,
            functional.relu6,
            functional.hardtanh,
            functional.hardswish,
            functional.leaky_relu,
            functional.silu,
            functional.gelu,
            functional.elu,
        ),
        _smooth,
    ),
    functional.max_pool2d: _average,
    torch.max_pool2d: _average,
    functional.adaptive_max_pool2d: functional.adaptive_avg_pool2d,
}
"""Functions with flat stretches -> stand-ins that read the same inputs and have none."""
