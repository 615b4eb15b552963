"""How well a circuit keeps a unit's response: the circuit's maps, and four measures by loops."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.oracles.convolutions import ConvCall, Masks, Target, double, layer_output, unit_map

Maps = NDArray[np.float64]

_CONSTANT = 1e-12
"""A response whose spread is below this part of its size is constant but for rounding."""


def full_response(model: nn.Module, images: Tensor, target: Target) -> Maps:
    """y of every image in the whole network: (images, h, w)."""
    return _maps(double(model), images, target, None, {})


def circuit_response(
    model: nn.Module,
    images: Tensor,
    target: Target,
    *,
    masks: Masks,
    ablation: Literal["zero", "mean"],
    scoring: Tensor | None = None,
) -> Maps:
    """y of every image (images, h, w) where the kernels not in `masks` are pruned; biases stay.

    "zero": a pruned kernel adds nothing. "mean": it adds its mean contribution, the mean of A_oi in
    the whole network over the `scoring` images and all positions, at every position. Convolutions
    that `masks` does not name stay whole. `masks` false where the kernel cannot reach the unit is
    harmless: what it adds reaches nothing.
    """
    model = double(model)
    constants: dict[str, Tensor] = {}
    if ablation == "mean":
        if scoring is None:
            raise ValueError("mean ablation needs the scoring images")
        constants = _constants(model, scoring, target, masks)
    return _maps(model, images, target, masks, constants)


def pearson(circuit: Maps, full: Maps) -> float | None:
    """r over all positions of all images; None where either is constant."""
    c, y = [float(v) for v in circuit.flat], [float(v) for v in full.flat]
    if _is_constant(c) or _is_constant(y):
        return None
    c_mean, y_mean = math.fsum(c) / len(c), math.fsum(y) / len(y)
    both = math.fsum((a - c_mean) * (b - y_mean) for a, b in zip(c, y, strict=True))
    c_square = math.fsum((a - c_mean) ** 2 for a in c)
    y_square = math.fsum((b - y_mean) ** 2 for b in y)
    return both / math.sqrt(c_square * y_square)


def spearman(circuit: Maps, full: Maps) -> float | None:
    """Pearson r of the ranks; equal values share the mean of the ranks they take up."""
    c, y = [float(v) for v in circuit.flat], [float(v) for v in full.flat]
    if _is_constant(c) or _is_constant(y):
        return None
    return pearson(np.asarray(average_ranks(c)), np.asarray(average_ranks(y)))


def average_ranks(values: Sequence[float]) -> list[float]:
    """1-based ranks from the smallest up; equal values share the mean of the ranks they take up."""
    ordered = sorted(values)
    first = {value: rank for rank, value in reversed(list(enumerate(ordered)))}
    last = {value: rank for rank, value in enumerate(ordered)}
    return [(first[value] + last[value]) / 2 + 1 for value in values]


def relative_l1(circuit: Maps, full: Maps) -> float | None:
    """Sum of abs(c - y) over sum of abs(y); None where y is zero everywhere."""
    size = math.fsum(abs(float(b)) for b in full.flat)
    if size == 0:
        return None
    apart = (abs(float(a) - float(b)) for a, b in zip(circuit.flat, full.flat, strict=True))
    return math.fsum(apart) / size


def change_at_maximum(circuit: Maps, full: Maps) -> float | None:
    """(c - y) / abs(y) at the image and position where y is largest; None where y is zero there."""
    best = max(range(full.size), key=lambda position: float(full.flat[position]))
    c, y = float(circuit.flat[best]), float(full.flat[best])
    return None if y == 0 else (c - y) / abs(y)


def _maps(
    model: nn.Module,
    images: Tensor,
    target: Target,
    masks: Masks | None,
    constants: dict[str, Tensor],
) -> Maps:
    def prune(call: ConvCall) -> Tensor:
        if masks is None or call.name not in masks:
            return call.run(call.weight)
        output = call.run(call.weight * masks[call.name][:, :, None, None])
        if call.name in constants:
            output = output + constants[call.name][None, :, None, None]
        return output

    with torch.no_grad():
        maps = [
            unit_map(layer_output(model, image, target.layer, prune), target.unit)
            for image in images
        ]
    return torch.stack(maps).numpy()


def _constants(
    model: nn.Module, scoring: Tensor, target: Target, masks: Masks
) -> dict[str, Tensor]:
    """What mean ablation adds to each output channel: the pruned kernels' means, summed."""
    totals = {name: torch.zeros(len(kept), dtype=torch.float64) for name, kept in masks.items()}

    def add_means(call: ConvCall) -> Tensor:
        if call.name in masks:
            for out, column in (~masks[call.name]).nonzero().tolist():
                totals[call.name][out] += call.kernel_map(out, column).mean() / len(scoring)
        return call.run(call.weight)

    with torch.no_grad():
        for image in scoring:
            layer_output(model, image, target.layer, add_means)
    return totals


def _is_constant(values: Sequence[float]) -> bool:
    low, high = min(values), max(values)
    return high - low <= _CONSTANT * max(abs(low), abs(high))
