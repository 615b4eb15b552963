"""A pruned network as a `torch.nn.Module` that holds what its circuit needs, and nothing else.

Channels that nothing kept reads are left out, as are those that are the same for every image: what
they add to a convolution is added as a constant map. What is left are the network's own operations
on fewer channels.
"""

from __future__ import annotations

import itertools
import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from circuit_atlas.jobs.circuits.live_channels import (
    Channels,
    follows_channels,
    live_channels,
    part_ends,
)
from circuit_atlas.jobs.engine.targets import Targets
from circuit_atlas.jobs.extraction.constant_map import ConstantMap
from circuit_atlas.jobs.extraction.constants import Constants
from circuit_atlas.jobs.extraction.small_convolution import conv2d, small_convolution
from circuit_atlas.jobs.network.aten import BATCH_NORM, PADS, POINTWISE
from circuit_atlas.jobs.network.convolution import ConvGeometry, ConvWeights
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step

_SAME = frozenset({"clone", "dropout"})
# Traced with the sizes of their results.
_SIZED = PADS | {"upsample_nearest2d", "upsample_bilinear2d"}


@dataclass(frozen=True)
class SmallNetwork:
    """A network of one unit.

    Attributes:
        module: images (batch, channels, height, width) -> the unit's maps (batch, map height, map
            width).
        kernels: how many its convolutions have that are not all zero.
        fixed: why images must have the size that the network was traced with; "" where any will do.
    """

    module: fx.GraphModule
    kernels: int
    fixed: str


def small_network(
    network: Network, weights: Mapping[str, ConvWeights], read: Channels, target: Targets
) -> SmallNetwork:
    """Builds the network of one unit that computes what a pruned network does.

    Args:
        network: the traced network, cut at the unit's layer.
        weights: what its convolutions run with, by the name of the step, as `pruned_weights` gives
            it; one that is not named runs with the model's own.
        read: (channels,) bool over the layer's output, the channels that the unit is made of.
        target: the unit.
    """
    own = {
        step.name: ConvWeights(step.args[1], step.args[2] if len(step.args) > 2 else None)
        for step in network.steps
        if step.convolution is not None
    }
    with torch.no_grad():
        return _Assembly(network, {**own, **weights}, read).small_network(target)


class _Assembly:
    """The nodes of the small network, put together step by step."""

    def __init__(
        self, network: Network, weights: Mapping[str, ConvWeights], read: Channels
    ) -> None:
        self._network = network
        self._weights = weights
        self._read = read
        self._constants = Constants.of(network, weights)
        carrying = {
            step.name: self._constants.carrying(step)
            for step in network.steps
            if step.convolution is not None
        }
        self._live = live_channels(network, carrying, read, varying=self._constants.varying)
        self._graph = fx.Graph()
        self._parts: dict[str, Any] = {}
        images = self._graph.placeholder("images")
        self._nodes = {network.image: self._channels_last(images)}
        self._sizes = {name: (call, args) for name, call, args in network.sizes.nodes}
        self._kernels = 0
        self._fixed = ""

    def small_network(self, target: Targets) -> SmallNetwork:
        for step in self._network.steps:
            live = self._live.get(step.name)
            if live is not None and not self._constants.are_constant(step.name, live):
                self._nodes[step.name] = self._step(step)
        output = self._unit(self._value(self._network.target.name, self._read), target)
        self._graph.output(self._graph.call_method("select", (output, 1, 0)))
        module = fx.GraphModule(self._parts, self._graph, "SmallNetwork")
        return SmallNetwork(module.eval().requires_grad_(False), self._kernels, self._fixed)

    def _unit(self, output: fx.Node, target: Targets) -> fx.Node:
        """The unit's maps, from those of the channels that it is made of."""
        if target.channels is not None:
            return output
        direction = target.directions[:, self._index(self._read)]
        mixed = conv2d(
            ConvWeights(direction[:, :, None, None], target.bias),
            ConvGeometry((1, 1), (0, 0), (1, 1), 1),
        )
        output = self._call("direction", mixed, output)
        return self._graph.call_function(torch.relu, (output,)) if target.rectified else output

    def _step(self, step: Step) -> fx.Node:
        """The node of a step that depends on the image."""
        if step.convolution is not None:
            return self._convolution(step)
        follows = follows_channels(self._network, step)
        if not follows or step.op in _SIZED:
            self._fix(f"{_where(step)} was traced for images of one size")
        if follows and step.op == "cat":
            return self._concatenation(step)
        values = {name: self._input(step, name, follows=follows) for name in step.inputs}
        if follows and step.op in _SAME:
            return values[step.inputs[0]]
        args = step.args
        if follows and step.op == BATCH_NORM:
            index = self._index(self._live[step.name])
            args = tuple(arg[index] if isinstance(arg, Tensor) else arg for arg in args)
        node = self._graph.call_function(
            step.call,
            self._filled(step, args, values),
            self._filled(step, dict(step.kwargs), values),
        )
        if step.part is None:
            return node
        return self._graph.call_function(operator.getitem, (node, step.part))

    def _input(self, step: Step, name: str, *, follows: bool) -> fx.Node:
        """What a step that is no convolution reads of a value."""
        channels = self._network.shape(name)[:1] or (1,)
        live = self._live[step.name]
        if follows and channels[0] == len(live):
            return self._value(name, live, spread=step.op not in POINTWISE)
        whole = np.ones(channels, dtype=np.bool_)
        return self._value(name, whole, spread=not follows)

    def _concatenation(self, step: Step) -> fx.Node:
        pieces = np.split(self._live[step.name], part_ends(self._network, step))
        parts = [
            self._value(part.name, piece)
            for part, piece in zip(step.args[0], pieces, strict=True)
            if piece.any()
        ]
        return parts[0] if len(parts) == 1 else self._graph.call_function(torch.cat, (parts, 1))

    def _convolution(self, step: Step) -> fx.Node:
        (source,), name = step.inputs, step.module or step.name
        small = small_convolution(
            self._network,
            step,
            self._weights[step.name],
            self._constants,
            rows=self._live[step.name],
            held=self._live[source],
        )
        self._kernels += int(small.module.weight.flatten(2).any(2).sum())
        node = self._call(name, small.module, self._value(source, small.columns))
        if small.borders is None:
            return node
        self._fix(f"constants differ at the borders of {_where(step)}")
        borders = self._call(f"{name}_borders", ConstantMap(small.borders))
        return self._graph.call_function(torch.add, (node, borders))

    def _value(self, name: str, channels: Channels, *, spread: bool = True) -> fx.Node:
        """Some channels of a value.

        Args:
            name: of the value.
            channels: which, of all that it has in the whole network.
            spread: where they are constants, whether they must have the size of the map and of the
                batch. Default: they must.
        """
        node = self._nodes.get(name)
        if node is not None:
            held = channels[self._live[name]]
            if held.all():
                return node
            index = self._stored(f"{name}_channels", self._index(held))
            picked = self._graph.call_function(operator.getitem, (node, (slice(None), index)))
            return self._channels_last(picked)
        values = self._constants.values[name][:, self._index(channels)]
        sized = (self._constants.sized[name] & channels).any()
        if sized or spread:
            self._fix(f"{_where(self._network.by_name[name])} gives a constant map")
            constant = self._call(f"{name}_constant", ConstantMap(values))
        else:
            constant = self._stored(f"{name}_constant", values[:, :, :1, :1].clone())
        if not spread:
            return constant
        images = self._nodes[self._network.image]
        batch = self._graph.call_function(torch.ops.aten.sym_size.int, (images, 0))
        return self._graph.call_method("expand", (constant, batch, -1, -1, -1))

    def _channels_last(self, node: fx.Node) -> fx.Node:
        """The same numbers in the order that is fastest, see `channels_last` of convolutions."""
        layout: dict[str, Any] = {"memory_format": torch.channels_last}
        return self._graph.call_method("contiguous", (node,), layout)

    def _filled(self, step: Step, value: Any, values: Mapping[str, fx.Node]) -> Any:
        """Arguments of a step, with nodes in place of what they refer to and of tensors."""
        if isinstance(value, Ref):
            return values[value.name] if value.name in values else self._size(value.name)
        if isinstance(value, Tensor):
            return self._stored(f"{step.name}_constant", value.detach())
        if isinstance(value, (tuple, list)):
            return type(value)(self._filled(step, item, values) for item in value)
        if isinstance(value, dict):
            return {key: self._filled(step, item, values) for key, item in value.items()}
        return value

    def _size(self, name: str) -> fx.Node:
        """An integer that depends on the batch size."""
        if name not in self._nodes:
            call, args = self._sizes[name]
            filled = [self._size(arg.name) if isinstance(arg, Ref) else arg for arg in args]
            self._nodes[name] = self._graph.call_function(call, tuple(filled))
        return self._nodes[name]

    def _call(self, name: str, module: nn.Module, *arguments: fx.Node) -> fx.Node:
        self._parts[name := self._free(name)] = module
        return self._graph.call_module(name, arguments)

    def _stored(self, name: str, tensor: Tensor) -> fx.Node:
        self._parts[name := self._free(name)] = tensor
        return self._graph.get_attr(name)

    def _free(self, name: str) -> str:
        """The name, or with a number after it where a part has that name."""
        numbered = (f"{name}_{n}" for n in itertools.count(1))
        return next(each for each in itertools.chain([name], numbered) if each not in self._parts)

    def _index(self, channels: Channels) -> Tensor:
        return torch.from_numpy(np.flatnonzero(channels)).to(self._network.sites[-1].weight.device)

    def _fix(self, reason: str) -> None:
        self._fixed = self._fixed or reason


def _where(step: Step) -> str:
    operation = "batch norm" if step.op == BATCH_NORM else step.op
    return f"{operation!r}" + (f" in {step.module!r}" if step.module else "")
