"""A forward pass, with what every backward pass over it needs and no cotangent changes.

Kept as they are asked for: the slope of each activation function, where each maximum was taken,
what each weight of a convolution meets at each position.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.network.convolution import channels_last, conv_geometry, pair
from circuit_atlas.jobs.network.graph import Network, Replaced, Step


@dataclass(frozen=True)
class Maxima:
    """What one image's max-pool took.

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
    """The values of one image, over which any number of cotangents go back; or of several images,
    each of which has one cotangent.

    Attributes:
        network: the traced network.
        values: every step's result, (images, ...).
        replaced: what ran in place of the model's own weights.
    """

    def __init__(
        self,
        network: Network,
        values: dict[str, Tensor],
        replaced: Replaced | None = None,
        places: Mapping[str, Tensor] | None = None,
    ) -> None:
        """`places` gives `winners` of max-pools whose input is not among the values."""
        self.network = network
        self.values = values
        self.replaced = replaced
        self._slopes: dict[str, Tensor] = {}
        self._columns: dict[str, Tensor] = {}
        self._places: dict[str, Tensor] = dict(places or {})
        self._maxima: dict[str, Maxima] = {}

    @classmethod
    def of_batch(cls, network: Network, images: Tensor) -> Iterator[Forward]:
        """One forward pass of several images, taken apart."""
        values = network.forward(images)
        for n in range(len(images)):
            yield cls(network, {name: value[n : n + 1] for name, value in values.items()})

    @property
    def images(self) -> int:
        """How many."""
        return len(self.values[self.network.target.name])

    def weight(self, step: Step) -> Tensor:
        """The weight that a convolution's step ran with."""
        if self.replaced is not None and step.name in self.replaced:
            return self.replaced[step.name].weight
        return self.network.sites[step.convolution or 0].weight

    def slope(self, step: Step) -> Tensor:
        """Derivative of an elementwise function at its input, (images, ...)."""
        if step.name not in self._slopes:
            if step.op == "relu":
                value = self.values[step.name]
                self._slopes[step.name] = (value > 0).to(value.dtype)
            else:
                self._slopes[step.name] = self._autograd_slope(step)
        return self._slopes[step.name]

    def _autograd_slope(self, step: Step) -> Tensor:
        with torch.enable_grad():
            value = self.values[step.inputs[0]].detach().requires_grad_()
            result = step.run({**self.values, step.inputs[0]: value})
            (slope,) = torch.autograd.grad(result.sum(), value)
        return slope

    def columns(self, step: Step) -> Tensor:
        """What each weight of a convolution meets at each position of the one image: (groups,
        channels of a group, K, positions)."""
        if step.name not in self._columns:
            self._columns[step.name] = columns(self.network, step, self.values[step.inputs[0]])
        return self._columns[step.name]

    def places(self, pool: Step) -> Tensor:
        """Where a max-pool took its maxima: flat input positions, (images, channels, positions)
        int64."""
        if pool.name not in self._places:
            _, indices = functional.max_pool2d(
                self.values[pool.inputs[0]], *pool_options(pool), return_indices=True
            )
            self._places[pool.name] = indices.flatten(2)
        return self._places[pool.name]

    def maxima(self, pool: Step, *, rectified: bool) -> Maxima:
        """What a max-pool took of the one image; `rectified` if its input is a ReLU's result."""
        if pool.name not in self._maxima:
            self._maxima[pool.name] = self._find_maxima(pool, rectified)
        return self._maxima[pool.name]

    def _find_maxima(self, pool: Step, rectified: bool) -> Maxima:
        places = self.places(pool)[0]
        channels, positions = places.shape
        passes = torch.ones_like(places, dtype=torch.bool)
        if rectified:
            passes = self.values[pool.name][0].flatten(1) > 0
        _, height, width = self.network.shape(pool.inputs[0])
        window = torch.arange(positions, device=places.device).expand_as(places)
        earliest = places.new_full((channels, height * width), positions)
        earliest.scatter_reduce_(1, places, window, "amin")
        first = earliest.gather(1, places)
        again = first != window
        channel = torch.arange(channels, device=places.device)[:, None].expand_as(places)
        repeated = again & passes
        repeats = window[repeated] * channels + channel[repeated]
        firsts = first[repeated] * channels + channel[repeated]
        alive = passes & ~again
        return Maxima(places, repeats, firsts, alive)


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


def spread_places(
    cotangent: Tensor, places: Tensor, channels: slice, shape: tuple[int, ...]
) -> Tensor:
    """Cotangents of a max-pool's result (N, all channels, h, w) -> of some channels of its input
    (N, *shape); `places` as `Forward.places`."""
    count, (some, height, width) = len(cotangent), shape
    flat = cotangent.new_zeros((count, height * width, some))
    where = places[:, channels].transpose(1, 2).expand(count, -1, -1)
    flat.scatter_add_(1, where, cotangent[:, channels].permute(0, 2, 3, 1).flatten(1, 2))
    return flat.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def merge_repeats(cotangent: Tensor, found: Maxima) -> Tensor:
    """Cotangents of a max-pool's result with those of one and the same maximum added up at its
    first window: (N, channels, h, w) -> (N, channels, positions); other windows' do not count."""
    laid = channels_last(cotangent).permute(0, 2, 3, 1).flatten(1, 2)
    flat = laid.flatten(1).clone()
    flat.index_add_(1, found.firsts, flat[:, found.repeats])
    return flat.view_as(laid).transpose(1, 2)


def pool_options(
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
