"""The backward rule of each operation: from gradients by its result to gradients by its inputs.

A rule takes N gradients of a step's result, stacked on the batch axis, and gives N gradients of
each input. Written by hand are the operations on which convolutional networks spend their time; any
other goes through autograd on values expanded to N.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.conv_input import conv_input_gradient, is_matrix
from circuit_atlas.jobs.engine.forward import Forward, unpool
from circuit_atlas.jobs.network.aten import BATCH_NORM, UNARY
from circuit_atlas.jobs.network.aten_gradient import aten_gradient
from circuit_atlas.jobs.network.convolution import channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Ref, Step
from circuit_atlas.jobs.network.step_kinds import is_concatenation, is_elementwise


class InputGradient(NamedTuple):
    """What a rule gives for one input of its step.

    Attributes:
        name: of the value.
        gradient: (N, ...), by that value.
        writable: whether nobody else holds the tensor, so that it may be written over.
    """

    name: str
    gradient: Tensor
    writable: bool = False


@dataclass
class BackwardWalk:
    """What the rules of one backward pass know and note.

    Attributes:
        forward: the values that the gradients go back over.
        live: for some ungrouped convolutions, the output channels whose gradient is not zero.
        writable: values whose gradient nobody else holds.
        gated: values whose gradient has passed the gate of their ReLU already, after it.
    """

    forward: Forward
    live: Mapping[str, Tensor]
    writable: set[str] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)

    @property
    def network(self) -> Network:
        """The traced network."""
        return self.forward.network

    def scaled(self, step: Step, gradient: Tensor, factor: Tensor) -> Tensor:
        """Multiplies a step's gradient by a factor, in place where nobody else holds it."""
        return gradient.mul_(factor) if step.name in self.writable else gradient * factor

    def parts(self, name: str) -> list[tuple[str, slice]]:
        """Lists the parts that a value is concatenated from, where nothing else reads it: each
        part's name and channels. So its gradient comes in parts, and is not copied when it is
        split."""
        step = self.network.by_name.get(name)
        whole = slice(0, self.network.shape(name)[0])
        reads = self.network.reads
        if step is None or reads[name] != 1 or not is_concatenation(self.network, step):
            return [(name, whole)]
        parts, start = [], 0
        for part in step.args[0]:
            if name in self.gated and reads[part.name] == 1:
                self.gated.add(part.name)
            stop = start + self.network.shape(part.name)[0]
            parts.append((part.name, slice(start, stop)))
            start = stop
        return parts


Rule = Callable[[BackwardWalk, Step, Tensor], Iterable[InputGradient]]


def rule_of(network: Network, step: Step) -> Rule:
    """Finds the backward rule of a step; autograd where it has none, or none for these inputs."""
    if step.convolution is not None:
        return _convolution
    return RULES[step.op] if has_rule(network, step) else _autograd


def has_rule(network: Network, step: Step) -> bool:
    """Says whether an operation has a rule that holds for its inputs: their shapes, types and
    number, and which of its arguments depend on the image."""
    if step.op not in RULES or step.folded or any(network.is_folded(n) for n in step.inputs):
        return False
    types = {network.dtype(name) for name in step.inputs if network.is_differentiable(name)}
    if types != {step.dtype} or not step.dtype.is_floating_point:
        return False
    if step.op in UNARY:
        return is_elementwise(network, step)
    if step.op == "cat":
        return is_concatenation(network, step)
    # Elsewhere only the first argument, or both of a sum or product, may be the image's.
    first = 2 if step.op in ("add", "sub", "mul") else 1
    others = (*step.args[first:], *step.kwargs.values())
    if any(isinstance(argument, Ref) for argument in others):
        return False
    return step.op != "max_pool2d" or len(step.shape) == 3


def is_rectified(network: Network, name: str) -> bool:
    """Says whether a value is the result of ReLUs only."""
    step = network.by_name.get(name)
    if step is None or not (step.op == "relu" or is_concatenation(network, step)):
        return False
    return step.op == "relu" or all(is_rectified(network, part) for part in step.inputs)


def _convolution(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    source, weight = step.inputs[0], walk.forward.weight(step)
    if step.name in walk.live:
        live = walk.live[step.name]
        weight, gradient = weight[live], gradient[:, live]
    parts = [(source, slice(0, walk.network.shape(source)[0]))]
    if is_matrix(step, weight):
        parts = walk.parts(source)
    for name, channels in parts:
        part = conv_input_gradient(walk.network, step, gradient, weight, channels)
        yield InputGradient(name, part, writable=True)


def _max_pool(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    source, forward = step.inputs[0], walk.forward
    gradient = channels_last(gradient)
    if is_rectified(walk.network, source) and walk.network.reads[source] == 1:
        # The gate of the ReLU before the pool, at the pool's size.
        gate = (forward.values[step.name] > 0).to(gradient.dtype)
        gradient = walk.scaled(step, gradient, gate)
        walk.gated.add(source)
    for name, channels in walk.parts(source):
        part = unpool(gradient, forward.argmax(step), channels, walk.network.shape(name))
        yield InputGradient(name, part, writable=True)


def _relu(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterable[InputGradient]:
    if step.name not in walk.gated:
        return _unary(walk, step, gradient)
    return [InputGradient(step.inputs[0], gradient, writable=step.name in walk.writable)]


def _unary(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterable[InputGradient]:
    scaled = walk.scaled(step, gradient, walk.forward.slope(step))
    return [InputGradient(step.inputs[0], scaled, writable=True)]


def _batch_norm(_walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterable[InputGradient]:
    _, scale, _, _, variance, _, epsilon = step.args
    factor = torch.rsqrt(variance + epsilon)
    if scale is not None:
        factor = factor * scale
    factor = factor.reshape(-1, *[1] * (gradient.dim() - 2))
    return [InputGradient(step.inputs[0], gradient * factor)]


def _add(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    sign = {"add": 1.0, "sub": -1.0}[step.op] * float(step.kwargs.get("alpha", 1))
    for argument, factor in zip(step.args[:2], (1.0, sign), strict=True):
        name = _ref(argument)
        if name is not None:
            signed = gradient if factor == 1.0 else gradient * factor
            yield InputGradient(name, _reduce_to(signed, walk.forward.values[name]))


def _multiply(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    values = walk.forward.values
    for argument, other in ((step.args[0], step.args[1]), (step.args[1], step.args[0])):
        name = _ref(argument)
        if name is not None:
            factor = values[other.name] if isinstance(other, Ref) else other
            yield InputGradient(name, _reduce_to(gradient * factor, values[name]))


def _linear(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterable[InputGradient]:
    weight = step.args[1]
    if not isinstance(weight, Tensor):  # computed from the image
        return _autograd(walk, step, gradient)
    return [InputGradient(step.inputs[0], gradient @ weight, writable=True)]


def _concatenate(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    if step.name in walk.gated:
        walk.gated.update(name for name in step.inputs if walk.network.reads[name] == 1)
    sizes = [walk.network.shape(part.name)[0] for part in step.args[0]]
    pieces = torch.split(gradient, sizes, dim=1)
    for part, piece in zip(step.args[0], pieces, strict=True):
        yield InputGradient(part.name, piece)


def _same(_walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterable[InputGradient]:
    return [InputGradient(step.inputs[0], gradient)]


def _autograd(walk: BackwardWalk, step: Step, gradient: Tensor) -> Iterator[InputGradient]:
    for name, part in aten_gradient(walk.network, step, walk.forward.values, gradient):
        yield InputGradient(name, part)


def _ref(argument: Any) -> str | None:
    return argument.name if isinstance(argument, Ref) else None


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
    **dict.fromkeys(UNARY, _unary),
    "relu": _relu,
    "max_pool2d": _max_pool,
    BATCH_NORM: _batch_norm,
    "add": _add,
    "sub": _add,
    "mul": _multiply,
    "linear": _linear,
    "cat": _concatenate,
    "clone": _same,
    "dropout": _same,
}
"""The operations that have a backward rule, besides convolutions."""
