"""One image's forward pass, with what every backward pass over it needs and no unit changes.

Kept as they are asked for: the slope of each activation function, where each maximum was taken,
what each weight of a convolution meets at each position.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.graph import (
    Network,
    Replaced,
    Step,
    channels_last,
    conv_geometry,
    pair,
)


@dataclass(frozen=True)
class Winners:
    """Where a max-pool took its maxima.

    Attributes:
        places: (channels, positions) int64, the flat input position of each maximum.
        repeats: flat (position, channel) numbers of maxima that an earlier window took too.
        firsts: for each of them the earlier window's, so that cotangents can be added up there.
        alive: (channels, positions) bool: the first window of its maximum, and the maximum passes
            the ReLU before the pool, where there is one.
    """

    places: Tensor
    repeats: Tensor
    firsts: Tensor
    alive: Tensor


class Forward:
    """The values of one image.

    Attributes:
        network: the traced network.
        values: every step's result, (1, ...).
        replaced: what ran in place of the model's own weights.
    """

    def __init__(
        self, network: Network, values: dict[str, Tensor], replaced: Replaced | None = None
    ) -> None:
        self.network = network
        self.values = values
        self.replaced = replaced
        self._kept: dict[tuple[str, str], Tensor] = {}
        self._winners: dict[str, Winners] = {}

    @classmethod
    def of_batch(
        cls, network: Network, images: Tensor, replaced: Replaced | None = None
    ) -> list[Forward]:
        """One forward pass of several images, taken apart."""
        values = network.forward(images, replaced=replaced)
        return [
            cls(network, {name: value[n : n + 1] for name, value in values.items()}, replaced)
            for n in range(len(images))
        ]

    def weight(self, step: Step) -> Tensor:
        """The weight that a convolution's step ran with."""
        if self.replaced is not None and step.name in self.replaced:
            return self.replaced[step.name].weight
        return self.network.sites[step.convolution or 0].weight

    def slope(self, step: Step) -> Tensor:
        """Derivative of an elementwise function at its input, (1, ...)."""
        key = ("slope", step.name)
        if key not in self._kept:
            if step.op == "relu":
                value = self.values[step.name]
                self._kept[key] = (value > 0).to(value.dtype)
            else:
                self._kept[key] = self._autograd_slope(step)
        return self._kept[key]

    def _autograd_slope(self, step: Step) -> Tensor:
        with torch.enable_grad():
            value = self.values[step.inputs[0]].detach().requires_grad_()
            result = step.run({**self.values, step.inputs[0]: value})
            (slope,) = torch.autograd.grad(result.sum(), value)
        return slope

    def columns(self, step: Step) -> Tensor:
        """Input of a convolution laid out by what each weight meets: (groups, channels of a group,
        K, positions)."""
        key = ("columns", step.name)
        if key not in self._kept:
            self._kept[key] = columns(self.network, step, self.values[step.inputs[0]])
        return self._kept[key]

    def winners(self, pool: Step, *, rectified: bool) -> Winners:
        """Where a max-pool took its maxima; `rectified` if its input is a ReLU's result."""
        if pool.name not in self._winners:
            self._winners[pool.name] = self._find_winners(pool, rectified)
        return self._winners[pool.name]

    def _find_winners(self, pool: Step, rectified: bool) -> Winners:
        pooled, indices = functional.max_pool2d(
            self.values[pool.inputs[0]], *_pool_options(pool), return_indices=True
        )
        places = indices[0].flatten(1)
        channels, positions = places.shape
        passes = (
            pooled[0].flatten(1) > 0 if rectified else torch.ones_like(places, dtype=torch.bool)
        )
        # Windows in order of the position that they took, the earliest window first.
        ordered, windows = places.sort(dim=1, stable=True)
        again = torch.zeros_like(passes)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        number = torch.arange(positions, device=places.device).expand_as(places)
        leader = torch.where(again, 0, number).cummax(1).values
        channel = torch.arange(channels, device=places.device)[:, None].expand_as(places)
        repeated = again & passes.gather(1, windows)
        repeats = windows[repeated] * channels + channel[repeated]
        firsts = windows.gather(1, leader)[repeated] * channels + channel[repeated]
        alive = passes.scatter(1, windows, passes.gather(1, windows) & ~again)
        return Winners(places, repeats, firsts, alive)

    def pooled_columns(self, step: Step, pool: Step) -> Tensor:
        """As `columns`, at the positions that a max-pool took of each output channel alone, and 0
        where `Winners.alive` is not: (out channels, channels of a group, K, pooled positions)."""
        key = ("columns", pool.name)
        if key not in self._kept:
            winners = self._winners[pool.name]
            laid = self.columns(step)
            groups, inputs, weights, positions = laid.shape
            out = len(winners.places)
            flat = laid.reshape(groups, inputs * weights, positions)
            per_channel = flat.repeat_interleave(out // groups, 0) if groups > 1 else flat
            where = winners.places[:, None, :].expand(-1, inputs * weights, -1)
            taken = per_channel.expand(out, -1, -1).gather(2, where) * winners.alive[:, None, :]
            self._kept[key] = taken.unflatten(1, (inputs, weights))
        return self._kept[key]


def columns(network: Network, step: Step, value: Tensor) -> Tensor:
    """What each weight of a convolution meets at each position: (1, channels, h, w) -> (groups,
    channels / groups, K, positions)."""
    weight = network.sites[step.convolution or 0].weight
    geometry = conv_geometry(step.args)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    top, bottom, left, right = geometry.pads(kernel)
    if kernel == (1, 1) and geometry.stride == (1, 1) and not (top or left):
        unfolded = value.reshape(value.shape[1], 1, -1)
    else:
        padded = functional.pad(value, (left, right, top, bottom))
        unfolded = functional.unfold(
            padded, kernel, dilation=geometry.dilation, stride=geometry.stride
        )
        unfolded = unfolded.reshape(value.shape[1], kernel[0] * kernel[1], -1)
    return unfolded.unflatten(0, (geometry.groups, -1))


def spread_winners(cotangent: Tensor, winners: Winners, shape: tuple[int, ...]) -> Tensor:
    """Cotangents of a max-pool's result (N, channels, h, w) -> of its input (N, *shape)."""
    count, (channels, height, width) = len(cotangent), shape
    flat = cotangent.new_zeros((count, height * width, channels))
    where = winners.places.t().expand(count, -1, -1)
    flat.scatter_add_(1, where, cotangent.permute(0, 2, 3, 1).flatten(1, 2))
    return flat.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def merge_winners(cotangent: Tensor, winners: Winners) -> Tensor:
    """Cotangents of a max-pool's result with those of one and the same maximum added up at its
    first window: (N, channels, h, w) -> (N, channels, positions); other windows' do not count."""
    laid = channels_last(cotangent).permute(0, 2, 3, 1).flatten(1, 2)
    flat = laid.flatten(1).clone()
    flat.index_add_(1, winners.firsts, flat[:, winners.repeats])
    return flat.view_as(laid).transpose(1, 2)


def _pool_options(
    step: Step,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], bool]:
    """Kernel, stride, padding, dilation and ceiling of `aten.max_pool2d`."""
    kernel = pair(step.args[1], 1)
    tail = [*step.args[2:], *[None] * 4]
    stride = pair(tail[0], 0)
    return (
        kernel,
        kernel if stride == (0, 0) else stride,
        pair(tail[1], 0),
        pair(tail[2], 1),
        bool(tail[3]),
    )
