"""The channels of a pruned network that are the same for every image, and what they are.

A channel whose every kernel is pruned is its bias, and stays a constant through whatever treats
channels one by one, and through convolutions that read nothing else. Behind a padded convolution it
is another one at the borders, where the padding is zero and the constant is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.live_channels import Channels, follows_channels
from circuit_atlas.jobs.network.aten import BY_MAP, REDUCTIONS
from circuit_atlas.jobs.network.convolution import ConvWeights, conv_geometry, pair
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step

# Of a map of one number, maps of the same number whatever the size.
_LEVEL = frozenset("max_pool2d adaptive_avg_pool2d adaptive_max_pool2d mean amin amax".split())


@dataclass(frozen=True)
class Constants:
    """What is constant in a pruned network.

    Attributes:
        kept: (out, in / groups) bool of each step that applies a convolution, the kernels that are
            not all zero.
        varying: (channels,) bool of each value, the channels that depend on the image.
        sized: (channels,) bool of each value, the constant channels that may depend on the position
            or on the size of the image.
        values: each value for one image, (1, channels, height, width); those of channels that
            depend on the image mean nothing.
    """

    kept: Mapping[str, Channels]
    varying: Mapping[str, Channels]
    sized: Mapping[str, Channels]
    values: Mapping[str, Tensor]

    @classmethod
    def of(cls, network: Network, weights: Mapping[str, ConvWeights]) -> Constants:
        """Finds the constants of a network.

        Args:
            network: the traced network.
            weights: what each step that applies a convolution runs with, by its name.
        """
        kept = {
            name: (each.weight != 0).flatten(2).any(2).cpu().numpy()
            for name, each in weights.items()
        }
        like = next(iter(weights.values())).weight
        blank = torch.zeros((1, *network.image_shape), dtype=like.dtype, device=like.device)
        values = network.forward(blank, replaced=weights)
        varying = {network.image: np.ones(network.image_shape[0], dtype=np.bool_)}
        sized = {network.image: np.zeros(network.image_shape[0], dtype=np.bool_)}
        for step in network.steps:
            channels = step.shape[0] if step.shape else 1
            varies: Channels
            differs: Channels
            if step.convolution is not None:
                (name,), kernels = step.inputs, kept[step.name]
                uneven = _uneven(step, varying[name], sized[name], values[name])
                inputs = input_channels(step)
                varies = np.any(kernels & varying[name][inputs], axis=1)
                differs = np.any(kernels & uneven[inputs], axis=1)
            elif not follows_channels(network, step):
                # Of any shape, so that it is not worth telling what is constant.
                varies, differs = np.ones(channels, np.bool_), np.zeros(channels, np.bool_)
            else:
                varies = _joined(step, varying, channels)
                differs = _joined(step, sized, channels) | _depends_on_size(step)
            varying[step.name], sized[step.name] = varies, differs & ~varies
        return cls(kept, varying, sized, values)

    def are_constant(self, name: str, channels: Channels) -> bool:
        """Says whether none of some channels of a value depends on the image."""
        return not (self.varying[name] & channels).any()

    def carrying(self, step: Step) -> Channels:
        """Marks the kernels of a convolution that read what depends on the image: (out, in /
        groups)."""
        return self.kept[step.name] & self.varying[step.inputs[0]][input_channels(step)]

    def uneven(self, step: Step) -> Channels:
        """Marks the constant channels of a convolution's input that add different numbers to
        different positions."""
        (name,) = step.inputs
        return _uneven(step, self.varying[name], self.sized[name], self.values[name])


def input_channels(step: Step) -> NDArray[np.int64]:
    """Gives the channel that each kernel of a convolution reads: (out, in / groups)."""
    out, inputs = step.args[1].shape[:2]
    group = np.arange(out) // (out // conv_geometry(step.args).groups)
    return group[:, None] * inputs + np.arange(inputs)


def _uneven(step: Step, varying: Channels, sized: Channels, value: Tensor) -> Channels:
    height, width = step.args[1].shape[2:]
    padded = any(conv_geometry(step.args).pads((int(height), int(width))))
    nonzero = value[0].flatten(1).any(1).cpu().numpy()
    return sized | (nonzero & ~varying & padded)


def _joined(step: Step, marks: Mapping[str, Channels], channels: int) -> Channels:
    """The marks of a step that treats channels one by one, or puts them side by side."""
    if step.op == "cat":
        return np.concatenate([marks[part.name] for part in step.args[0]])
    joined: Channels = np.zeros(channels, dtype=np.bool_)
    for name in step.inputs:
        joined = joined | marks[name]
    return joined


def _depends_on_size(step: Step) -> bool:
    """Whether a constant channel may become another at the borders, or with the size of the map."""
    if step.op == "avg_pool2d":
        ceil_mode = len(step.args) > 4 and step.args[4]
        return pair(step.args[3] if len(step.args) > 3 else 0, 0) != (0, 0) or bool(ceil_mode)
    return step.op in BY_MAP | REDUCTIONS and step.op not in _LEVEL
