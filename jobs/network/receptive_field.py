"""The part of the image that a position of a layer can see.

Interval arithmetic backwards through the graph, one axis at a time: a window over positions
[a, b] with stride s, padding p, dilation d and k taps reads [a s - p, b s - p + d (k - 1)].
Of other operations it is measured which rows and columns they read (`reads`); those that mix the
whole map (a gate by global pooling, a linear layer) see all of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.network.aten import POINTWISE
from circuit_atlas.jobs.network.convolution import conv_geometry, pair
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.reads import Region, reads, regions
from circuit_atlas.jobs.network.step import Step

Interval = tuple[NDArray[np.int64], NDArray[np.int64]]


def receptive_fields(network: Network, of: Step | None = None) -> tuple[Interval, Interval]:
    """Finds the first and last pixel of the image that each row of a map, and each column, can see.

    Args:
        network: the traced network.
        of: the step whose result is the map. Default: the layer's output.

    Returns:
        ((height,), (height,)) by row and ((width,), (width,)) by column, both ends included.
    """
    step = of or network.by_name[network.base]
    return _along(network, step, 0), _along(network, step, 1)


def _along(network: Network, of: Step, axis: int) -> Interval:
    every = np.arange(of.shape[1 + axis], dtype=np.int64)
    seen: dict[str, Interval] = {of.name: (every, every)}
    found = regions(network)
    for step in reversed(network.steps):
        window = seen.pop(step.name, None)
        if window is None:
            continue
        if step.name not in found and _is_walk(step):
            before = [(name, _before(network, step, name, window, axis)) for name in step.inputs]
        else:
            region = found.get(step.name, Region(step.name, step.inputs, (step,)))
            before = _through(network, region, window, axis)
        for name, (low, high) in before:
            if name in seen:
                low, high = np.minimum(low, seen[name][0]), np.maximum(high, seen[name][1])
            seen[name] = (low, high)
    return seen[network.image]


def _through(
    network: Network, region: Region, window: Interval, axis: int
) -> list[tuple[str, Interval]]:
    """What a window over a region's map sees of each map that it reads."""
    low, high = window
    windows = []
    for name, read in reads(network, region, 1 + axis).items():
        columns = np.arange(read.shape[1])
        anything = read.any(1)
        if not anything.any():
            continue
        first = np.where(anything, read.argmax(1), columns[-1])
        last = np.where(anything, columns[-1] - read[:, ::-1].argmax(1), 0)
        lows = np.array([first[a : b + 1].min() for a, b in zip(low, high, strict=True)])
        highs = np.array([last[a : b + 1].max() for a, b in zip(low, high, strict=True)])
        windows.append((name, (np.minimum(lows, highs), highs)))
    return windows


def _is_walk(step: Step) -> bool:
    """Whether it is known which positions of its inputs a step reads."""
    return (
        step.convolution is not None
        or step.op in POINTWISE | {"cat", "max_pool2d", "avg_pool2d", "adaptive_avg_pool2d"}
        or (step.op in ("constant_pad_nd", "pad") and len(step.args[1]) <= 4)
    )


def _before(network: Network, step: Step, name: str, window: Interval, axis: int) -> Interval:
    shape = network.shape(name)
    low, high = window
    last = shape[1 + axis] - 1
    if (walk := _walk(network, step, axis)) is not None:
        stride, before, span = walk
        low, high = low * stride - before, high * stride - before + span
    elif step.op == "adaptive_avg_pool2d":
        size, out = shape[1 + axis], step.shape[1 + axis]
        low, high = low * size // out, -(-(high + 1) * size // out) - 1
    elif step.op in ("constant_pad_nd", "pad"):
        shift = ([*step.args[1], 0, 0])[2 - 2 * axis]
        low, high = low - shift, high - shift
    elif shape[1 + axis] != step.shape[1 + axis]:  # one row for all
        return np.zeros_like(low), np.full_like(high, last)
    return np.clip(low, 0, last), np.clip(high, 0, last)


def _walk(network: Network, step: Step, axis: int) -> tuple[int, int, int] | None:
    """Stride, padding before and span of a sliding window, or None."""
    if step.convolution is not None:
        geometry = conv_geometry(step.args)
        kernel = network.sites[step.convolution].weight.shape[2:]
        top, _, left, _ = geometry.pads((int(kernel[0]), int(kernel[1])))
        return (
            geometry.stride[axis],
            (top, left)[axis],
            geometry.dilation[axis] * (int(kernel[axis]) - 1),
        )
    if step.op not in ("max_pool2d", "avg_pool2d"):
        return None
    kernel_size = pair(step.args[1], 1)[axis]
    stride = pair(step.args[2] if len(step.args) > 2 else None, 0)[axis] or kernel_size
    padding = pair(step.args[3] if len(step.args) > 3 else None, 0)[axis]
    dilation = 1
    if step.op == "max_pool2d":
        dilation = pair(step.args[4] if len(step.args) > 4 else None, 1)[axis]
    return stride, padding, dilation * (kernel_size - 1)
