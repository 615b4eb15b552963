"""Convolutions: their geometry, and their fastest kernels for the device.

On a processor that is oneDNN. torch itself takes it for most convolutions but not for 1 x 1 kernels
on few images with one thread, and the library it takes then runs at half the speed on some
processors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class ConvWeights:
    """The weights that one call of a convolution runs with.

    Attributes:
        weight: (out, in / groups, height, width).
        bias: (out,), or None.
        mask: (out, in / groups) bool, the kernels that are not pruned, in main memory. Default:
            None, for all.
    """

    weight: Tensor
    bias: Tensor | None
    mask: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class ConvGeometry:
    """How a convolution walks over its input."""

    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]
    groups: int

    def pads(self, kernel: tuple[int, int]) -> tuple[int, int, int, int]:
        """Counts the zeros added around the input: top, bottom, left, right."""
        if self.padding == "valid":
            return 0, 0, 0, 0
        if isinstance(self.padding, str):
            total = [d * (k - 1) for d, k in zip(self.dilation, kernel, strict=True)]
            top, left = total[0] // 2, total[1] // 2
            return top, total[0] - top, left, total[1] - left
        return self.padding[0], self.padding[0], self.padding[1], self.padding[1]


def conv_geometry(args: tuple[Any, ...]) -> ConvGeometry:
    """Reads the arguments of `aten.conv2d`: input, weight, bias, stride, padding, dilation,
    groups, the last five of them optional."""
    tail = list(args[3:]) + [None] * (7 - len(args))
    padding = tail[1] if tail[1] is not None else 0
    return ConvGeometry(
        stride=pair(tail[0], 1),
        padding=padding if isinstance(padding, str) else pair(padding, 0),
        dilation=pair(tail[2], 1),
        groups=int(tail[3] or 1),
    )


def pair(value: Any, default: int) -> tuple[int, int]:
    """Reads an ATen size argument (missing, empty, one number or two) as (vertical, horizontal)."""
    if value is None or (isinstance(value, (list, tuple)) and not value):
        return default, default
    if isinstance(value, int):
        return value, value
    return int(value[0]), int(value[-1])


def channels_last(images: Tensor) -> Tensor:
    """Orders images' memory so that pooling and convolutions run fast: on a processor, pooling and
    the first convolution of SqueezeNet take a tenth of the time that they take channels-first."""
    return images.contiguous(memory_format=torch.channels_last)


def convolve(value: Tensor, kernels: ConvWeights, geometry: ConvGeometry) -> Tensor:
    """Convolves (batch, channels, height, width).

    Where a gradient will be taken, a 1 x 1 convolution is a matrix product, as its gradients are:
    torch would unfold the maps for them.
    """
    if _one_dnn(value) and _is_product(value, kernels, geometry):
        rows = functional.linear(
            value.permute(0, 2, 3, 1), kernels.weight[:, :, 0, 0], kernels.bias
        )
        return rows.permute(0, 3, 1, 2)
    stride, dilation = list(geometry.stride), list(geometry.dilation)
    if isinstance(geometry.padding, str) or not _one_dnn(value):
        padding: Any = geometry.padding
        padding = padding if isinstance(padding, str) else list(padding)
        return torch.ops.aten.conv2d(
            value, kernels.weight, kernels.bias, stride, padding, dilation, geometry.groups
        )
    return torch.ops.aten.mkldnn_convolution(
        value,
        channels_last(kernels.weight),
        kernels.bias,
        list(geometry.padding),
        stride,
        dilation,
        geometry.groups,
    )


def weight_gradient(
    geometry: ConvGeometry, value: Tensor, output_gradient: Tensor, weight: Tensor
) -> Tensor:
    """Gives dr/dw of a convolution from its input and the gradient dr/dY by its output.

    Args:
        geometry: how it walks over its input.
        value: (1, channels, h, w), its input.
        output_gradient: (1, out, h', w').
        weight: (out, in / groups, height, width).

    Returns:
        A tensor of the shape of `weight`.
    """
    top, bottom, left, right = geometry.pads((int(weight.shape[2]), int(weight.shape[3])))
    if (top, left) != (bottom, right):
        value = functional.pad(value, (left, right, top, bottom))
        top = left = 0
    _, gradient, _ = torch.ops.aten.convolution_backward(
        output_gradient,
        value,
        weight,
        None,
        list(geometry.stride),
        [top, left],
        list(geometry.dilation),
        False,
        [0, 0],
        geometry.groups,
        [False, True, False],
    )
    return gradient


def _is_product(value: Tensor, kernels: ConvWeights, geometry: ConvGeometry) -> bool:
    """Whether a convolution is a matrix product that a gradient will go through."""
    return (
        torch.is_grad_enabled()
        and (value.requires_grad or kernels.weight.requires_grad)
        and kernels.weight.shape[2:] == (1, 1)
        and geometry.groups == 1
        and geometry.stride == (1, 1)
        and geometry.padding in ((0, 0), "valid", "same")
    )


def _one_dnn(value: Tensor) -> bool:
    on_processor = value.device.type == "cpu" and value.dtype == torch.float32
    return on_processor and torch.backends.mkldnn.is_available()
