"""The gradient by a convolution's input, in the fastest way that its geometry allows."""

from __future__ import annotations

from torch import Tensor
from torch.nn.grad import conv2d_input

from circuit_atlas.jobs.network.convolution import (
    ConvGeometry,
    ConvWeights,
    channels_last,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step


def conv_input_gradient(
    network: Network, step: Step, output_gradient: Tensor, weight: Tensor, channels: slice
) -> Tensor:
    """Computes the gradient by some channels of a convolution's input, (N, channels, h, w).

    With stride 1 it is a convolution with the flipped, transposed kernels, which in channels-last
    runs several times faster than the transposed convolution that autograd calls.

    Args:
        network: the traced network.
        step: the convolution.
        output_gradient: (N, out, height, width), by its output.
        weight: (out, in / groups, height, width), what it ran with.
        channels: of the input.
    """
    geometry = conv_geometry(step.args)
    shape = network.shape(step.inputs[0])
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    top, bottom, left, right = geometry.pads(kernel)
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel, strict=True)]
    even = (top, left) == (bottom, right) and top <= reach[0] and left <= reach[1]
    if geometry.stride == (1, 1) and geometry.groups == 1 and even:
        flipped = channels_last(weight[:, channels].flip(2, 3).transpose(0, 1))
        padding = (reach[0] - top, reach[1] - left)
        return convolve(
            output_gradient,
            ConvWeights(flipped, None),
            ConvGeometry((1, 1), padding, geometry.dilation, 1),
        )
    padded = (
        len(output_gradient),
        shape[0],
        shape[1] + top + bottom,
        shape[2] + left + right,
    )
    gradient = conv2d_input(
        padded,
        weight,
        output_gradient,
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    return gradient[:, channels, top : top + shape[1], left : left + shape[2]]


def one_row_input_gradient(
    network: Network, step: Step, output_gradient: Tensor, rows: Tensor, weight: Tensor
) -> Tensor:
    """Computes what `conv_input_gradient` does, for an ungrouped convolution where gradient n is of
    output channel `rows[n]` only, (N, height, width); this takes one n-th of the arithmetic.

    All N become one grouped transposed convolution.
    """
    geometry = conv_geometry(step.args)
    channels, height, width = network.shape(step.inputs[0])
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    top, bottom, left, right = geometry.pads(kernel)
    padded = (1, len(rows) * channels, height + top + bottom, width + left + right)
    spread = conv2d_input(
        padded,
        weight[rows],
        output_gradient.unsqueeze(0),
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=len(rows),
    )
    spread = spread.reshape(len(rows), channels, *padded[2:])
    return spread[:, :, top : top + height, left : left + width]


def is_matrix(step: Step, weight: Tensor) -> bool:
    """Says whether a convolution is one matrix for every position."""
    geometry = conv_geometry(step.args)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    return (
        kernel == (1, 1)
        and geometry.stride == (1, 1)
        and geometry.groups == 1
        and not any(geometry.pads(kernel))
    )
