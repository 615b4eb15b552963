"""The receptive field of a position, by trying: change one input pixel and see what moves."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.oracles.convolutions import double, layer_output
from tests.oracles.reach import NEVER_FLAT, redraw

_MOVED = 1e-13
"""Of the value itself. With positive weights nothing cancels, so any path shows above rounding."""


def receptive_box(
    model: nn.Module,
    size: tuple[int, int],
    layer: str,
    position: tuple[int, int],
    *,
    channel: int | None = None,
) -> tuple[int, int, int, int]:
    """(top, left, bottom, right) of the input pixels that can change the layer's output at a
    position (row, column), in one channel or in any; bottom and right exclusive.

    All parameters are drawn anew and positive, and flat functions replaced: wiring alone decides.
    """
    generator = torch.Generator().manual_seed(0)
    model = double(model)
    redraw(model, generator, low=0.0)
    image = torch.rand((3, *size), generator=generator, dtype=torch.float64)

    def value(picture: Tensor) -> Tensor:
        with torch.no_grad():
            output = layer_output(model, picture, layer, lambda c: c.run(c.weight), NEVER_FLAT)
        values = output[:, position[0], position[1]]
        return values if channel is None else values[channel : channel + 1]

    before = value(image)
    hit_rows, hit_columns = [], []
    for row in range(size[0]):
        for column in range(size[1]):
            changed = image.clone()
            changed[:, row, column] += 10.0
            if ((value(changed) - before).abs() > _MOVED * before.abs()).any():
                hit_rows.append(row)
                hit_columns.append(column)
    return min(hit_rows), min(hit_columns), max(hit_rows) + 1, max(hit_columns) + 1
