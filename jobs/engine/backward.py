"""The backward pass of a traced network: N cotangents over the forward pass of one image, or one
cotangent over that of each of N images.

Every rule takes N cotangents of a step's result, stacked on the batch axis, and gives N cotangents
of each input. Written by hand are the operations on which convolutional networks spend their time;
any other goes through autograd on values expanded to N, which is right for every operation that
treats the images of a batch alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.grad import conv2d_input

from circuit_atlas.jobs.engine.forward import Forward, Maxima, merge_repeats, spread_places
from circuit_atlas.jobs.network.aten import BATCH_NORM, CHANNELWISE, MOVES, UNARY
from circuit_atlas.jobs.network.convolution import (
    ConvGeometry,
    ConvWeights,
    channels_last,
    conv_geometry,
    convolve,
)
from circuit_atlas.jobs.network.graph import Network, Ref, Step

Rule = Callable[[Forward, Step, Tensor], list[tuple[str, Tensor]]]


@dataclass(frozen=True)
class ConvGradient:
    """The cotangent of a convolution's output, complete.

    Attributes:
        step: the convolution.
        cotangent: (N, channels, height, width); with `maxima`, (N, channels, pooled positions).
        maxima: where cotangents are given there alone: those of the max-pool through which alone
            the convolution is read, and before which there is no other.
    """

    step: Step
    cotangent: Tensor
    maxima: Maxima | None


def backward(
    forward: Forward,
    start: Mapping[str, Tensor],
    *,
    live: Mapping[str, Tensor] | None = None,
    at_maxima: bool = False,
) -> Iterator[ConvGradient]:
    """Walks back from the steps of `start`, and yields each convolution as its cotangent arrives.

    Args:
        forward: the values of one image, or of as many as there are cotangents.
        start: cotangents (N, channels, height, width) of one or more steps' results.
        live: of some ungrouped convolutions, the output channels whose cotangent is not zero.
        at_maxima: give the first convolution's cotangents at the maxima of its max-pool alone;
            over one image, and worth it for many cotangents.
    """
    network = forward.network
    reads = network.reads
    needed = _leads_to_convolution(network)
    pending = {name: channels_last(cotangent) for name, cotangent in start.items()}
    # Values whose cotangent is held by nobody else, so that it may be written over.
    own: set[str] = set()
    gated: set[str] = set()

    def push(name: str, gradient: Tensor, *, fresh: bool) -> None:
        if name not in needed:
            return
        if name in pending:
            pending[name] = pending[name] + gradient
            own.add(name)
        else:
            pending[name] = gradient
            if fresh:
                own.add(name)

    for step in reversed(network.steps):
        cotangent = pending.pop(step.name, None)
        if cotangent is None:
            continue
        if cotangent.dim() == 4 and step.op not in UNARY and step.op not in RULES:
            cotangent = channels_last(cotangent)
        if step.convolution is not None:
            yield ConvGradient(step, cotangent, None)
        if not any(name in needed for name in step.inputs):
            continue
        source = step.inputs[0]
        if step.op == "max_pool2d":
            rectified = _rectified(network, source)
            first = _first_convolution(network, source, needed, reads)
            if first is not None and at_maxima:
                found = forward.maxima(step, rectified=rectified)
                yield ConvGradient(first, merge_repeats(cotangent, found), found)
                continue
            if rectified and reads[source] == 1:
                # The gate of the ReLU before the pool, at the pool's size.
                gate = (forward.values[step.name] > 0).to(cotangent.dtype)
                cotangent = cotangent.mul_(gate) if step.name in own else cotangent * gate
                gated.add(source)
            for name, channels in _parts(network, source, gated):
                shape = network.shape(name)
                spread = spread_places(cotangent, forward.places(step), channels, shape)
                push(name, spread, fresh=True)
        elif step.convolution is not None:
            weight = forward.weight(step)
            if live is not None and step.name in live:
                weight, cotangent = weight[live[step.name]], cotangent[:, live[step.name]]
            parts = [(source, slice(0, network.shape(source)[0]))]
            if is_matrix(step, weight):
                parts = _parts(network, source, gated)
            for name, channels in parts:
                gradient = conv_input(network, step, cotangent, weight, channels)
                push(name, gradient, fresh=True)
        elif step.op == "relu" and step.name in gated:
            push(source, cotangent, fresh=step.name in own)
        elif step.op in UNARY:
            slope = forward.slope(step)
            scaled = cotangent.mul_(slope) if step.name in own else cotangent * slope
            push(source, scaled, fresh=True)
        else:
            if step.op == "cat" and step.name in gated:
                gated.update(name for name in step.inputs if reads[name] == 1)
            for name, gradient in RULES.get(step.op, autograd_rule)(forward, step, cotangent):
                push(name, gradient, fresh=False)


def generic_operations(network: Network) -> tuple[str, ...]:
    """Operations between the layer and its convolutions that nothing is known of, so that autograd
    takes them as they are: right, and slower than a rule."""
    needed = _leads_to_convolution(network)
    known = UNARY | CHANNELWISE | MOVES | RULES.keys()
    found = (
        step.op
        for step in network.steps
        if step.convolution is None and step.op not in known and step.name in needed
    )
    return tuple(dict.fromkeys(found))


def _parts(network: Network, name: str, gated: set[str]) -> list[tuple[str, slice]]:
    """A value by the parts that it is concatenated from, where nothing else reads it: each part's
    name and channels. So its cotangent comes in parts, and is not copied when it is split."""
    step = network.by_name.get(name)
    whole = slice(0, network.shape(name)[0])
    if step is None or step.op != "cat" or network.reads[name] != 1 or step.args[1:] != (1,):
        return [(name, whole)]
    parts, start = [], 0
    for part in step.args[0]:
        if name in gated and network.reads[part.name] == 1:
            gated.add(part.name)
        stop = start + network.shape(part.name)[0]
        parts.append((part.name, slice(start, stop)))
        start = stop
    return parts


def conv_input(
    network: Network, step: Step, cotangent: Tensor, weight: Tensor, channels: slice
) -> Tensor:
    """Cotangent of some channels of a convolution's input, (N, channels, height, width).

    With stride 1 it is a convolution with the flipped, transposed kernels, which in channels-last
    runs several times faster than the transposed convolution that autograd calls.
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
            cotangent,
            ConvWeights(flipped, None),
            ConvGeometry((1, 1), padding, geometry.dilation, 1),
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
    return gradient[:, channels, top : top + shape[1], left : left + shape[2]]


def is_matrix(step: Step, weight: Tensor) -> bool:
    """Whether a convolution is one matrix for every position."""
    geometry = conv_geometry(step.args)
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    return (
        kernel == (1, 1)
        and geometry.stride == (1, 1)
        and geometry.groups == 1
        and not any(geometry.pads(kernel))
    )


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


def _rectified(network: Network, name: str) -> bool:
    """Whether a value comes out of ReLUs alone."""
    step = network.by_name.get(name)
    if step is None or step.op not in ("relu", "cat"):
        return False
    return step.op == "relu" or all(_rectified(network, part) for part in step.inputs)


def _first_convolution(
    network: Network, name: str, needed: set[str], reads: Mapping[str, int]
) -> Step | None:
    """The convolution whose result, or its ReLU, this value is, if nothing else reads it and no
    convolution comes before it."""
    step = network.by_name.get(name)
    if step is not None and step.op == "relu" and reads[name] == 1:
        step = network.by_name.get(step.inputs[0])
    if step is None or step.convolution is None or reads[step.name] != 1:
        return None
    return None if any(source in needed for source in step.inputs) else step


def autograd_rule(forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    """Any operation, by autograd on its inputs expanded to the number of cotangents."""
    return autograd_cotangents(forward.network, step, forward.values, cotangent)


def autograd_cotangents(
    network: Network, step: Step, values: Mapping[str, Tensor], cotangent: Tensor
) -> list[tuple[str, Tensor]]:
    """As `autograd_rule`, from the step's inputs, (1, ...) or (N, ...), alone."""
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


def _ref(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


def _batch_norm(_forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    _, scale, _, _, variance, _, epsilon = step.args
    factor = torch.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * scale
    return [(step.inputs[0], cotangent * factor[:, None, None])]


def _add(forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    sign = {"add": 1.0, "sub": -1.0}[step.op] * float(step.kwargs.get("alpha", 1))
    pushed = []
    for argument, factor in zip(step.args[:2], (1.0, sign), strict=True):
        name = _ref(argument)
        if name is not None:
            gradient = cotangent if factor == 1.0 else cotangent * factor
            pushed.append((name, _reduce_to(gradient, forward.values[name])))
    return pushed


def _multiply(forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    values = forward.values
    pushed = []
    for argument, other in ((step.args[0], step.args[1]), (step.args[1], step.args[0])):
        name = _ref(argument)
        if name is not None:
            factor = values[other.name] if isinstance(other, Ref) else other
            pushed.append((name, _reduce_to(cotangent * factor, values[name])))
    return pushed


def _concatenate(forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    axis = step.args[1] if len(step.args) > 1 else 0
    sizes = [forward.values[part.name].shape[axis] for part in step.args[0]]
    pieces = torch.split(cotangent, sizes, dim=axis)
    return [(part.name, piece) for part, piece in zip(step.args[0], pieces, strict=True)]


def _same(_forward: Forward, step: Step, cotangent: Tensor) -> list[tuple[str, Tensor]]:
    return [(step.inputs[0], cotangent)]


def _reduce_to(gradient: Tensor, value: Tensor) -> Tensor:
    """Sums over the axes along which `value` was broadcast; the batch axis stays."""
    extra = gradient.dim() - value.dim()
    axes = [
        axis
        for axis in range(1, gradient.dim())
        if axis - extra >= 1 and value.shape[axis - extra] == 1 and gradient.shape[axis] != 1
    ]
    return gradient.sum(axes, keepdim=True) if axes else gradient


RULES: dict[str, Rule] = {
    BATCH_NORM: _batch_norm,
    "add": _add,
    "sub": _add,
    "mul": _multiply,
    "cat": _concatenate,
    "clone": _same,
    "dropout": _same,
}
"""Operations with a backward rule of their own, besides convolutions, max-pools and functions of
single values."""
