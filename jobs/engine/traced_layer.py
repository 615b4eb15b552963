"""One layer ready for work: its network, its units, and the kernel axis of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.backward import refuse_underivable
from circuit_atlas.jobs.engine.conv_gradients import LayerPass
from circuit_atlas.jobs.engine.targets import Targets
from circuit_atlas.jobs.network.kernel_axis import Upstream, upstream
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.site import Site
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import Convolution


@dataclass(frozen=True)
class TracedLayer:
    """A layer's network with all its units.

    Attributes:
        network: the graph, cut at the layer.
        index: what the atlas stores about the layer.
        upstream: the kernel axis; unit number n is its row n.
        directions: the units after the channels.
    """

    network: Network
    index: LayerIndex
    upstream: Upstream
    directions: Directions

    @property
    def gives_class_scores(self) -> bool:
        """Whether the module's own output is that of a linear layer on a vector."""
        network = self.network
        base = network.by_name[network.base]
        own = network.by_name.get(base.inputs[0]) if base.inputs else None
        return own is not None and own.op == "linear" and len(own.shape) == 1

    def targets(self, numbers: Sequence[int]) -> Targets:
        """Gives a block of units, by number."""
        like = self.network.sites[-1].weight
        return Targets.of(numbers, self.directions, self.index.channels, like)

    def reads(self, number: int) -> NDArray[np.bool_]:
        """Marks the channels of the layer that the unit is made of: (channels,) bool."""
        channels = self.index.channels
        if number >= channels:
            return np.asarray(self.directions.vectors[number - channels] != 0)
        return np.arange(channels) == number

    def unit_rows(self, numbers: Sequence[int]) -> dict[int, Tensor]:
        """Gives the row of each unit in each one-row convolution: (units,) int64, by the
        convolution's ordinal among the network's sites."""
        device = self.network.sites[-1].weight.device
        table = np.asarray([self.upstream.rows[number] for number in numbers], dtype=np.int64)
        one_row = [
            ordinal
            for ordinal, convolution in zip(
                self.upstream.ordinals, self.upstream.index.convolutions, strict=True
            )
            if convolution.one_row
        ]
        return {
            ordinal: torch.from_numpy(table[:, column]).to(device)
            for column, ordinal in enumerate(one_row)
        }

    def reachable(self, number: int) -> NDArray[np.bool_]:
        """Marks the positions of the axis that can reach the unit: (kernels,) bool."""
        return self.upstream.mask(number)

    def pieces(self) -> list[tuple[slice, Convolution, Site]]:
        """Lists each convolution's stretch of the axis, with the convolution and its site."""
        index = self.upstream.index
        sites = [self.network.sites[ordinal] for ordinal in self.upstream.ordinals]
        return list(zip(index.slices(), index.convolutions, sites, strict=True))

    def write_scores(self, out: Tensor, scored: LayerPass, scores: Tensor) -> None:
        """Writes one convolution's scores (units, g, o, i) into its stretch of (units, kernels)."""
        if scored.ordinal in self.upstream.ordinals:
            ordinal = self.upstream.ordinals.index(scored.ordinal)
            piece = self.upstream.index.slices()[ordinal]
            if scored.rows is None:
                out[:, piece] = scores.reshape(len(out), piece.stop - piece.start)
            else:
                rows = out[:, piece].unflatten(1, (-1, scores.shape[-1]))
                rows[:, scored.rows] = scores.flatten(1, 2)


def open_layer(
    graph: ModelGraph,
    name: str,
    directions: Callable[[int], Directions] = Directions.none,
    *,
    activation: Activation = "pre",
) -> TracedLayer:
    """Cuts the model at a layer and finds what reaches each of its units.

    Args:
        graph: the traced model.
        name: the layer's module path.
        directions: gives directions over so many channels, each one more unit. Default: none.
        activation: "post" for what units pass on, "pre" for the module's own output. Default:
            "pre".

    Raises:
        ModelError: the layer cannot be used, or a direction is not over its channels.
    """
    network = graph.network(name, activation)
    channels, height, width = network.target.shape
    if not network.sites:
        raise ModelError(
            f"layer {name!r}: no convolution with weights of its own computes it, so it has no "
            "circuit; choose a later layer"
        )
    like = network.sites[0].weight
    noise = torch.randn((1, *network.image_shape), generator=torch.Generator().manual_seed(0))
    refuse_underivable(network, noise.to(like))
    mixed = directions(channels)
    mixed.check()
    axis = upstream(network, [*np.eye(channels, dtype=np.bool_), *(mixed.vectors != 0)])
    vectors: list[tuple[float, ...] | None] = [None] * (channels + len(mixed))
    if mixed.in_layer:
        vectors[channels:] = [tuple(vector.tolist()) for vector in mixed.vectors]
    names = [*(str(n) for n in range(channels)), *mixed.names]
    units = tuple(
        UnitInfo(number=n, name=names[n], direction=vectors[n], rows=axis.rows[n])
        for n in range(len(names))
    )
    index = LayerIndex(
        layer=name,
        channels=channels,
        height=height,
        width=width,
        index=axis.index,
        units=units,
        activation=activation,
        after=network.after,
        directions=mixed.record(),
    )
    return TracedLayer(network, index, axis, mixed)
