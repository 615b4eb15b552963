"""The backward pass of a traced network: N gradients over the forward pass of one image, or one
gradient over that of each of N images.

Each step has a rule (`gradient_rules`) that takes the gradients by its result back to its inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.forward import Forward, Maxima, merge_repeats
from circuit_atlas.jobs.engine.gradient_rules import (
    BackwardWalk,
    has_rule,
    is_rectified,
    rule_of,
)
from circuit_atlas.jobs.network.aten import MOVES, QUICK
from circuit_atlas.jobs.network.aten_gradient import aten_gradient
from circuit_atlas.jobs.network.convolution import channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import one_line


@dataclass(frozen=True)
class ConvGradient:
    """The gradient by a convolution's output, complete.

    Attributes:
        step: the convolution.
        output_gradient: (N, channels, height, width); with `maxima`, (N, channels, maxima).
        maxima: set when only the network's first max-pool reads this convolution: the gradient is
            then given at the pooled maxima only.
    """

    step: Step
    output_gradient: Tensor
    maxima: Maxima | None


def backward(
    forward: Forward,
    start: Mapping[str, Tensor],
    *,
    live: Mapping[str, Tensor] | None = None,
    at_maxima: bool = False,
    handed: Callable[[Step], Tensor] | None = None,
) -> Iterator[ConvGradient]:
    """Walks back from the steps of `start`, and yields each convolution once its gradient is
    complete.

    Args:
        forward: the values of one image, or of as many as there are gradients.
        start: gradients (N, channels, height, width) by one or more steps' results.
        live: for some ungrouped convolutions, the output channels whose gradient is not zero.
        at_maxima: give the first convolution's gradients at the maxima of its max-pool only. It
            needs a forward pass of one image, and pays for many gradients.
        handed: gives in place of each convolution's rule the gradient by what it reads, (N,
            channels, height, width); asked after the convolution was yielded. Default: its rule.
    """
    network = forward.network
    walk = BackwardWalk(forward, live or {})
    needed = _leads_to_convolution(network)
    pending = {name: channels_last(gradient) for name, gradient in start.items()}
    for step in reversed(network.steps):
        gradient = pending.pop(step.name, None)
        if gradient is None:
            continue
        if step.convolution is not None:
            gradient = channels_last(gradient)
            yield ConvGradient(step, gradient, None)
        if not any(name in needed for name in step.inputs):
            continue
        if step.convolution is not None and handed is not None:
            source, part = step.inputs[0], handed(step)
            pending[source] = pending[source] + part if source in pending else part
            continue
        first = _first_convolution(network, step, needed) if at_maxima else None
        if first is not None:
            maxima = forward.maxima(step, rectified=is_rectified(network, step.inputs[0]))
            yield ConvGradient(first, merge_repeats(channels_last(gradient), maxima), maxima)
            continue
        for name, part, writable in rule_of(network, step)(walk, step, gradient):
            if name not in needed:
                continue
            if writable or name in pending:  # a sum is a tensor of its own
                walk.writable.add(name)
            pending[name] = pending[name] + part if name in pending else part


def generic_operations(network: Network) -> tuple[str, ...]:
    """Lists the operations between the layer and its convolutions that have no rule, so that
    autograd takes them back: right, and slower."""
    cut = network.up_to(network.base)
    generic = (step.op for step in _without_rule(cut) if step.op not in MOVES | QUICK)
    return tuple(dict.fromkeys(generic))


def refuse_underivable(network: Network, image: Tensor) -> None:
    """Raises ModelError, naming the operation and the line of the model's source, where a gradient
    does not go back through an operation.

    Args:
        network: the traced network.
        image: any image, (1, channels, height, width).
    """
    steps = _without_rule(network)
    if not steps:
        return
    with torch.no_grad():
        values = network.forward(image)
        for step in steps:
            gradient = torch.ones_like(values[step.name])
            try:
                aten_gradient(network, step, values, gradient[None] if step.folded else gradient)
            except (RuntimeError, NotImplementedError) as error:
                raise ModelError(
                    f"layer {network.layer!r}: no gradient goes back through {step.location} "
                    f"({one_line(error)}); choose a layer before it"
                ) from error


def _without_rule(network: Network) -> list[Step]:
    needed = _leads_to_convolution(network)
    return [
        step
        for step in network.steps
        if step.convolution is None
        and step.name in needed
        and any(name in needed for name in step.inputs)
        and not has_rule(network, step)
    ]


def _leads_to_convolution(network: Network) -> set[str]:
    """Values whose gradient some convolution upstream needs."""
    needed: set[str] = set()
    for step in network.steps:
        leads = step.differentiable and any(name in needed for name in step.inputs)
        if step.convolution is not None or leads:
            needed.add(step.name)
    return needed


def _first_convolution(network: Network, pool: Step, needed: set[str]) -> Step | None:
    """The convolution that a max-pool reads, directly or through a ReLU, if nothing else reads
    either and no convolution comes before it."""
    if pool.op != "max_pool2d":
        return None
    reads, step = network.reads, network.by_name.get(pool.inputs[0])
    if step is not None and step.op == "relu" and reads[step.name] == 1:
        step = network.by_name.get(step.inputs[0])
    if step is None or step.convolution is None or reads[step.name] != 1:
        return None
    return None if any(source in needed for source in step.inputs) else step
