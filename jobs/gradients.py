"""The backward pass of a traced network: many cotangents over one forward pass.

Every rule takes the values of V images (V is 1, or one for each cotangent) and N cotangents of the
step's result, stacked on the batch axis, and gives N cotangents of each input. Written by hand are
the operations on which convolutional networks spend their time; any other goes through autograd on
values expanded to N, which is right for every operation that treats the images of a batch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.grad import conv2d_input

from circuit_atlas.jobs.graph import (
    Network,
    Ref,
    Replaced,
    Step,
    channels_last,
    conv_geometry,
    pair,
)
from circuit_atlas.jobs.operations import BATCH_NORM, UNARY

Values = Mapping[str, Tensor]
Rule = Callable[[Step, Values, Tensor], list[tuple[str, Tensor]]]


def backward(
    network: Network,
    values: Values,
    start: Mapping[str, Tensor],
    *,
    replaced: Replaced | None = None,
) -> Iterator[tuple[Step, Tensor]]:
    """Walks back from the steps of `start`, yielding each convolution's step with the cotangent of
    its output as soon as that is complete.

    Args:
        network: the traced network.
        values: its `forward` on V images.
        start: cotangents (N, channels, height, width) of one or more steps' results; V is 1 or N.
        replaced: what the forward pass used in place of the model's own weights.
    """
    pending = {name: channels_last(cotangent) for name, cotangent in start.items()}
    needed = _leads_to_convolution(network)
    for step in reversed(network.steps):
        cotangent = pending.pop(step.name, None)
        if cotangent is None:
            continue
        if step.convolution is not None:
            yield step, cotangent
        if not any(name in needed for name in step.inputs):
            continue
        if step.convolution is not None:
            weight = weight_of(network, step, replaced)
            pushed = [(step.inputs[0], conv_input(network, step, cotangent, weight))]
        else:
            rule = RULES.get(step.op)
            pushed = (
                rule(step, values, cotangent)
                if rule is not None
                else autograd_rule(network, step, values, cotangent)
            )
        for name, gradient in pushed:
            if name in needed:
                laid = channels_last(gradient) if gradient.dim() == 4 else gradient
                pending[name] = pending[name] + laid if name in pending else laid


def weight_of(network: Network, step: Step, replaced: Replaced | None) -> Tensor:
    """The weight that a convolution's step ran with."""
    if replaced is not None and step.name in replaced:
        return replaced[step.name].weight
    return network.sites[step.convolution or 0].weight


def conv_input(network: Network, step: Step, cotangent: Tensor, weight: Tensor) -> Tensor:
    """Cotangent of a convolution's input, (N, channels, height, width).

    With stride 1 it is a convolution with the flipped, transposed kernels, which in channels-last
    runs several times faster than the transposed convolution that autograd calls.
    """
    geometry = conv_geometry(step.args)
    shape = network.shape(step.inputs[0])
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    top, bottom, left, right = geometry.pads(kernel)
    reach = [d * (k - 1) for d, k in zip(geometry.dilation, kernel, strict=True)]
    if (
        geometry.stride == (1, 1)
        and geometry.groups == 1
        and (top, left) == (bottom, right)
        and top <= reach[0]
        and left <= reach[1]
    ):
        flipped = weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return functional.conv2d(
            cotangent,
            flipped,
            padding=(reach[0] - top, reach[1] - left),
            dilation=geometry.dilation,
        )
    padded = (
        len(cotangent),
        shape[0],
        shape[1] + top + bottom,
        shape[2] + left + right,
    )
    gradient = conv2d_input(
        padded,
        weight,
        cotangent,
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=geometry.groups,
    )
    return gradient[:, :, top : top + shape[1], left : left + shape[2]]


def one_row_input(
    network: Network, step: Step, cotangent: Tensor, rows: Tensor, weight: Tensor
) -> Tensor:
    """As `conv_input` for an ungrouped convolution, where cotangent n touches output channel
    `rows[n]` alone: (N, height, width) in, one n-th of the arithmetic.

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
        cotangent.unsqueeze(0),
        stride=geometry.stride,
        dilation=geometry.dilation,
        groups=len(rows),
    )
    spread = spread.reshape(len(rows), channels, *padded[2:])
    return spread[:, :, top : top + height, left : left + width]


def _leads_to_convolution(network: Network) -> set[str]:
    """Values whose cotangent some convolution upstream needs."""
    needed: set[str] = set()
    for step in network.steps:
        if step.convolution is not None or any(name in needed for name in step.inputs):
            needed.add(step.name)
    return needed


def _ref(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


def _relu(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    return [(step.inputs[0], cotangent * (values[step.name] > 0))]


def _unary(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    with torch.enable_grad():
        value = values[step.inputs[0]].detach().requires_grad_()
        result = step.run({**values, step.inputs[0]: value})
        (slope,) = torch.autograd.grad(result.sum(), value)
    return [(step.inputs[0], cotangent * slope)]


def _batch_norm(step: Step, _values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    _, scale, _, _, variance, _, epsilon = step.args
    factor = torch.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * scale
    return [(step.inputs[0], cotangent * factor[:, None, None])]


def _add(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    sign = {"add": 1.0, "sub": -1.0}[step.op] * float(step.kwargs.get("alpha", 1))
    pushed = []
    for argument, factor in zip(step.args[:2], (1.0, sign), strict=True):
        name = _ref(argument)
        if name is not None:
            gradient = cotangent if factor == 1.0 else cotangent * factor
            pushed.append((name, _reduce_to(gradient, values[name])))
    return pushed


def _multiply(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    pushed = []
    for argument, other in ((step.args[0], step.args[1]), (step.args[1], step.args[0])):
        name = _ref(argument)
        if name is not None:
            factor = values[other.name] if isinstance(other, Ref) else other
            pushed.append((name, _reduce_to(cotangent * factor, values[name])))
    return pushed


def _concatenate(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    axis = step.args[1] if len(step.args) > 1 else 0
    sizes = [values[part.name].shape[axis] for part in step.args[0]]
    pieces = torch.split(cotangent, sizes, dim=axis)
    return [(part.name, piece) for part, piece in zip(step.args[0], pieces, strict=True)]


def _same(step: Step, _values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    return [(step.inputs[0], cotangent)]


def _max_pool(step: Step, values: Values, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    value = values[step.inputs[0]]
    kernel = pair(step.args[1], 1)
    stride = pair(step.args[2] if len(step.args) > 2 else None, 0)
    _, indices = functional.max_pool2d(
        value,
        kernel,
        kernel if stride == (0, 0) else stride,
        pair(step.args[3] if len(step.args) > 3 else None, 0),
        pair(step.args[4] if len(step.args) > 4 else None, 1),
        bool(step.args[5]) if len(step.args) > 5 else False,
        return_indices=True,
    )
    _, channels, height, width = value.shape
    flat = torch.zeros(
        (len(cotangent), channels, height * width), dtype=value.dtype, device=value.device
    )
    where = indices.flatten(2).expand(len(cotangent), -1, -1)
    flat.scatter_add_(2, where, cotangent.flatten(2))
    return [(step.inputs[0], flat.unflatten(2, (height, width)))]


def _reduce_to(gradient: Tensor, value: Tensor) -> Tensor:
    """Sums over the axes along which `value` was broadcast; the batch axis stays."""
    extra = gradient.dim() - value.dim()
    axes = [
        axis
        for axis in range(1, gradient.dim())
        if axis - extra >= 1 and value.shape[axis - extra] == 1 and gradient.shape[axis] != 1
    ]
    return gradient.sum(axes, keepdim=True) if axes else gradient


def autograd_rule(
    network: Network, step: Step, values: Values, cotangent: Tensor
) -> list[tuple[str, Tensor]]:
    """Any operation, by autograd on its inputs expanded to the number of cotangents."""
    count = len(cotangent)
    with torch.enable_grad():
        expanded = {
            name: values[name].detach().expand(count, *values[name].shape[1:]).requires_grad_()
            for name in step.inputs
        }
        result = step.run({**values, **network.sizes.at(count, network.image), **expanded})
        gradients = torch.autograd.grad(
            result, list(expanded.values()), cotangent, allow_unused=True
        )
    return [
        (name, gradient)
        for name, gradient in zip(expanded, gradients, strict=True)
        if gradient is not None
    ]


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _unary),
    BATCH_NORM: _batch_norm,
    "relu": _relu,
    "add": _add,
    "sub": _add,
    "mul": _multiply,
    "cat": _concatenate,
    "clone": _same,
    "dropout": _same,
    "max_pool2d": _max_pool,
}
"""Operations with a backward rule of their own; see `autograd_rule` for the rest."""
