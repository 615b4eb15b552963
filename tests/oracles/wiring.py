"""Which channels feed which, by trying: change one channel that a convolution gives, hold what all
others give, and see which convolutions' inputs move."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.oracles.convolutions import ConvCall, double, layer_output
from tests.oracles.reach import NEVER_FLAT, redraw

Fed = set[tuple[str, int, str, int]]
"""(into, its input channel, source, its output channel); `""` is the image as a source, and the
layer's output as what is fed."""

_DRAWS = 2
_MOVED = 1e-11


def fed(model: nn.Module, image: Tensor, layer: str) -> Fed:
    """Every pair of channels of which one feeds the other with no convolution in between.

    `image` (3, H, W) only gives the size.
    """
    found: Fed = set()
    for draw in range(_DRAWS):
        generator = torch.Generator().manual_seed(draw)
        redrawn = double(model)
        redraw(redrawn, generator, low=-1.0)
        picture = torch.rand(image.shape, generator=generator, dtype=torch.float64)
        inputs, outputs = _pass(redrawn, picture, layer, {})
        for source, value in {"": picture[None], **outputs}.items():
            for channel in range(value.shape[1]):
                changed = value.clone()
                changed[:, channel] += 1 + torch.rand(value.shape[2:], generator=generator)
                given = {**outputs, source: changed}
                moved, _ = _pass(redrawn, given.pop("", picture[None])[0], layer, given)
                found |= {
                    (into, column, source, channel)
                    for into, before in inputs.items()
                    for column in range(before.shape[1])
                    if (moved[into][0, column] - before[0, column]).abs().max()
                    > _MOVED * before.abs().max()
                }
    return found


def _pass(
    model: nn.Module, image: Tensor, layer: str, given: dict[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What every convolution reads, and gives; those in `given` give that."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}

    def run(call: ConvCall) -> Tensor:
        inputs[call.name] = call.inputs
        outputs[call.name] = given.get(call.name, call.run(call.weight))
        return outputs[call.name].clone()

    with torch.no_grad():
        inputs[""] = layer_output(model, image, layer, run, NEVER_FLAT)[None]
    return inputs, outputs
