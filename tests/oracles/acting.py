"""Which kernels of a circuit act, by trying: what each reads has to follow the image, and what it
writes has to move the unit's map.

As in `reach`, every parameter is drawn anew and functions that are flat somewhere give way, so that
values hide no path. The kernels outside the circuit are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.oracles.convolutions import ConvCall, Masks, double, layer_output, unit_map
from tests.oracles.reach import NEVER_FLAT, redraw

_DRAWS = 3
"""A kernel counts as idle when nothing moves under any of these draws."""

_MOVED = 1e-11
"""Of the largest value: far above float64 rounding, far below what any real path gives."""


def acting(
    model: nn.Module, image: Tensor, layer: str, unit: int | tuple[float, ...], kept: Masks
) -> Masks:
    """Of each convolution, which of the kept kernels act: bool, (out, in of a group) each.

    `image` (3, H, W) only gives the size.
    """
    found = {name: torch.zeros_like(mask) for name, mask in kept.items()}
    for draw in range(_DRAWS):
        generator = torch.Generator().manual_seed(draw)
        redrawn = double(model)
        redraw(redrawn, generator, low=-1.0)
        first, second = torch.rand((2, *image.shape), generator=generator, dtype=torch.float64)
        inputs = [_inputs(redrawn, picture, layer, kept) for picture in (first, second)]
        before = _unit_map(redrawn, first, layer, unit, kept, None)
        for name, mask in kept.items():
            if name not in inputs[0]:
                continue
            for out, column in (mask & ~found[name]).nonzero().tolist():
                one, other = (
                    calls[name].inputs[0, calls[name].input_channel(out, column)]
                    for calls in inputs
                )
                if _moved(one, other):
                    after = _unit_map(redrawn, first, layer, unit, kept, (name, out))
                    found[name][out, column] = _moved(after, before)
    return found


def _moved(one: Tensor, other: Tensor) -> bool:
    return bool((one - other).abs().max() > _MOVED * one.abs().max())


def _masked(call: ConvCall, kept: Masks) -> Tensor:
    if call.name not in kept:
        return call.weight
    return call.weight * kept[call.name][:, :, None, None]


def _inputs(model: nn.Module, image: Tensor, layer: str, kept: Masks) -> dict[str, ConvCall]:
    calls: dict[str, ConvCall] = {}

    def run(call: ConvCall) -> Tensor:
        calls[call.name] = call
        return call.run(_masked(call, kept))

    with torch.no_grad():
        layer_output(model, image, layer, run, NEVER_FLAT)
    return calls


def _unit_map(
    model: nn.Module,
    image: Tensor,
    layer: str,
    unit: int | tuple[float, ...],
    kept: Masks,
    changed: tuple[str, int] | None,
) -> Tensor:
    """The unit's map in the circuit, with something added to a channel of a convolution."""

    def run(call: ConvCall) -> Tensor:
        output = call.run(_masked(call, kept))
        if changed is not None and changed[0] == call.name:
            channel = output[:, changed[1]]
            channel += 1.0 + torch.arange(channel.numel()).reshape(channel.shape) / channel.numel()
        return output

    with torch.no_grad():
        return unit_map(layer_output(model, image, layer, run, NEVER_FLAT), unit)
