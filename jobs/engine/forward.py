"""A forward pass, with what every backward pass over it needs, computed once.

That is the slope of each activation function, the position of each max-pool's maxima, and the
unfolded input of each convolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.network.convolution import channels_last, conv_geometry, pair
from circuit_atlas.jobs.network.layer_network import Network, Replaced
from circuit_atlas.jobs.network.step import Step


@dataclass(frozen=True)
class Maxima:
    """The maxima that a max-pool takes from one image, one a window.

    Attributes:
        argmax: (channels, windows) int64, the flat input position of each maximum.
        repeats: flat (window, channel) numbers of maxima that an earlier window took too.
        firsts: for each of them the earlier window's number, where gradients are added up.
        alive: (channels, windows) bool: the window is the first of its maximum, and the maximum
            passes the ReLU before the pool, where there is one.
    """

    argmax: Tensor
    repeats: Tensor
    firsts: Tensor
    alive: Tensor


class Forward:
    """The values of one image, over which any number of gradients go back; or those of several
    images, with one gradient each.

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
        argmax: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Takes the values; `argmax` is that of max-pools whose input is not among them."""
        self.network = network
        self.values = values
        self.replaced = replaced
        self._slopes: dict[str, Tensor] = {}
        self._unfolded: dict[str, Tensor] = {}
        self._argmax: dict[str, Tensor] = dict(argmax or {})
        self._maxima: dict[str, Maxima] = {}
        self._chain_slope: Tensor | None = None

    @classmethod
    def of_batch(cls, network: Network, images: Tensor) -> Iterator[Forward]:
        """Runs several images together, and yields each one's values; one by one where channels or
        positions are folded into the batch."""
        if network.folded:
            for image in images.split(1):
                yield cls(network, network.forward(image))
            return
        values = network.forward(images)
        for n in range(len(images)):
            yield cls(network, {name: value[n : n + 1] for name, value in values.items()})

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.values[self.network.target.name])

    def weight(self, step: Step) -> Tensor:
        """Gives the weight that a convolution's step ran with."""
        if self.replaced is not None and step.name in self.replaced:
            return self.replaced[step.name].weight
        return self.network.sites[step.convolution or 0].weight

    def slope(self, step: Step) -> Tensor:
        """Gives the derivative of an elementwise function at its input, (images, ...)."""
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

    def chain_slope(self) -> Tensor:
        """Gives the derivative of the layer's output by the module's own output, which is of each
        element by that element alone: (images, channels, height, width)."""
        if self._chain_slope is None:
            base = self.network.base
            with torch.enable_grad():
                values = {**self.values, base: self.values[base].detach().requires_grad_()}
                for step in self.network.chain:
                    values[step.name] = step.run(values)
                result = values[self.network.target.name].sum()
                (self._chain_slope,) = torch.autograd.grad(result, values[base])
        return self._chain_slope

    def unfolded(self, step: Step) -> Tensor:
        """Gives a convolution's input on the one image as `unfold_input` does."""
        if step.name not in self._unfolded:
            self._unfolded[step.name] = unfold_input(
                self.network, step, self.values[step.inputs[0]]
            )
        return self._unfolded[step.name]

    def argmax(self, pool: Step) -> Tensor:
        """Gives the flat input position of each maximum that a max-pool took: (images, channels,
        windows) int64."""
        if pool.name not in self._argmax:
            _, indices = functional.max_pool2d(
                self.values[pool.inputs[0]], *pool_options(pool), return_indices=True
            )
            self._argmax[pool.name] = indices.flatten(2)
        return self._argmax[pool.name]

    def maxima(self, pool: Step, *, rectified: bool) -> Maxima:
        """Gives what a max-pool took of the one image; `rectified` says whether its input is a
        ReLU's result."""
        if pool.name not in self._maxima:
            self._maxima[pool.name] = self._find_maxima(pool, rectified)
        return self._maxima[pool.name]

    def _find_maxima(self, pool: Step, rectified: bool) -> Maxima:
        argmax = self.argmax(pool)[0]
        channels, windows = argmax.shape
        passes = torch.ones_like(argmax, dtype=torch.bool)
        if rectified:
            passes = self.values[pool.name][0].flatten(1) > 0
        _, height, width = self.network.shape(pool.inputs[0])
        window = torch.arange(windows, device=argmax.device).expand_as(argmax)
        earliest = argmax.new_full((channels, height * width), windows)
        earliest.scatter_reduce_(1, argmax, window, "amin")
        first = earliest.gather(1, argmax)
        again = first != window
        channel = torch.arange(channels, device=argmax.device)[:, None].expand_as(argmax)
        repeated = again & passes
        repeats = window[repeated] * channels + channel[repeated]
        firsts = first[repeated] * channels + channel[repeated]
        return Maxima(argmax, repeats, firsts, passes & ~again)


def unfold_input(network: Network, step: Step, value: Tensor) -> Tensor:
    """Unfolds a convolution's input (im2col): the value each weight multiplies at each output
    position. (1, channels, h, w) -> (groups, channels / groups, K, positions), with kernels of K
    weights."""
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


def unpool(
    output_gradient: Tensor, argmax: Tensor, channels: slice, shape: tuple[int, ...]
) -> Tensor:
    """Takes gradients back through a max-pool, to some channels of its input.

    Args:
        output_gradient: (N, all channels, h, w), by the pool's result.
        argmax: as `Forward.argmax` gives it.
        channels: of the input.
        shape: of these channels, (channels, height, width).

    Returns:
        (N, channels, height, width).
    """
    count, (part, height, width) = len(output_gradient), shape
    flat = output_gradient.new_zeros((count, height * width, part))
    index = argmax[:, channels].transpose(1, 2).expand(count, -1, -1)
    flat.scatter_add_(1, index, output_gradient[:, channels].permute(0, 2, 3, 1).flatten(1, 2))
    return flat.unflatten(1, (height, width)).permute(0, 3, 1, 2)


def merge_repeats(output_gradient: Tensor, maxima: Maxima) -> Tensor:
    """Adds up, at a maximum's first window, the gradients of all windows that took it:
    (N, channels, h, w) -> (N, channels, windows). What the other windows hold does not count."""
    by_window = channels_last(output_gradient).permute(0, 2, 3, 1).flatten(1, 2)
    flat = by_window.flatten(1).clone()
    flat.index_add_(1, maxima.firsts, flat[:, maxima.repeats])
    return flat.view_as(by_window).transpose(1, 2)


def pool_options(
    step: Step,
) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int], tuple[int, int], bool]:
    """Reads kernel, stride, padding, dilation and ceiling off the arguments of
    `aten.max_pool2d`."""
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
