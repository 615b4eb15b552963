"""Oracle results on the engine's kernel axis."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache, partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.directions import Directions
from tests.oracles.convolutions import Masks, Mixed, double
from tests.oracles.networks import Network


@lru_cache(maxsize=32)
def double_graph(network: Network) -> ModelGraph:
    """The traced graph of a float64 copy, so that rounding hides nothing.

    Tracing takes most of a test's time: tests of one process share what is traced.
    """
    module = double(network.module).requires_grad_(False)
    return ModelGraph(module, (3, *network.size))


def open_double(
    network: Network, name: str, directions: Mapping[str, tuple[float, ...]] | None = None
) -> TracedLayer:
    """The layer of a float64 copy."""
    mixed = partial(Directions.of_spec, directions or {})
    return open_layer(double_graph(network), name, mixed)


def open_mixed(network: Network, name: str, unit: Mixed) -> TracedLayer:
    """The layer of a float64 copy with one direction, as from a file; its last unit."""
    directions = Directions(
        ("mixed",),
        np.array([unit.weights]),
        np.array([unit.bias]),
        "relu" if unit.rectified else "none",
    )
    return open_layer(double_graph(network), name, lambda _channels: directions)


def double_images(network: Network, count: int) -> Tensor:
    """Random images, float64."""
    return network.images(count).double()


def on_axis(
    layer: TracedLayer, unit: int, arrays: dict[str, NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Arrays (..., out, in) by convolution -> (..., kernels), NaN where a kernel doesn't reach."""
    unit_rows = iter(layer.upstream.rows[unit])
    pieces = []
    for _, convolution, _ in layer.pieces():
        array = arrays[convolution.name]
        if convolution.one_row:
            array = array[..., [next(unit_rows)], :]
        pieces.append(array.reshape(*array.shape[:-2], -1))
    values = np.concatenate(pieces, axis=-1)
    values[..., ~layer.reachable(unit)] = np.nan
    return values


def off_axis(layer: TracedLayer, unit: int, mask: NDArray[np.bool_], like: Masks) -> Masks:
    """A mask on the axis -> masks (out, in) by convolution; False off the axis."""
    masks = {name: torch.zeros_like(kept) for name, kept in like.items()}
    ordinal, out, _ = layer.upstream.index.locate(np.flatnonzero(mask), layer.upstream.rows[unit])
    positions = np.flatnonzero(mask)
    for n, position in enumerate(positions):
        convolution = layer.upstream.index.convolutions[ordinal[n]]
        within = (position - layer.upstream.index.offsets[ordinal[n]]) % convolution.in_channels
        masks[convolution.name][out[n], within] = True
    return masks
