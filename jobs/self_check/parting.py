"""Where the engine and the model part: the first operation on which they differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.gradient_rules import BackwardWalk, rule_of
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.network.convolution import channels_last
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.self_check.answers import explained
from circuit_atlas.jobs.self_check.difference import share
from circuit_atlas.jobs.self_check.module_run import LayerOutput, run_module

# Of the largest value: above rounding, and well below what a layer is refused for.
_APART = 1e-4


def where_they_part(
    graph: ModelGraph,
    module: nn.Module,
    output: LayerOutput,
    image: Tensor,
    number: int,
    response: Response,
) -> Step | None:
    """Finds the step on which the engine and the model differ first.

    Compared are what each module returns, forwards; the gradients by it, backwards; and, where the
    traced graph is right, the gradient of each step by the engine's rule with autograd's. None
    where all of these agree.
    """
    network = output.layer.network
    with torch.enable_grad():
        run = run_module(
            module,
            output,
            image,
            swap=lambda _, weight: weight,
            keep_all=True,
        )
        values = _traced_values(network, image)
        (own,) = output.maps(run.own, [number])
        (traced,) = output.maps(values[output.step], [number])
        pairs = [
            (network.by_name[name], run.returned[which], values[name])
            for which, name in graph.results.items()
            if name in network.by_name and which in run.returned
        ]
        for step, mine, theirs in pairs:
            if share(theirs, mine) > _APART:
                return step
        wanted = _gradients(explained(own, response), [mine for _, mine, _ in pairs])
        steps = [step for step in network.steps if values[step.name].requires_grad]
        found = dict(
            zip(
                (step.name for step in steps),
                _gradients(explained(traced, response), [values[step.name] for step in steps]),
                strict=True,
            )
        )
    for (step, _, _), gradient in reversed(list(zip(pairs, wanted, strict=True))):
        traced_gradient = found.get(step.name)
        if gradient is not None and _apart(traced_gradient, gradient):
            return next(reader for reader in network.steps if step.name in reader.inputs)
    forward = Forward(network, {name: value.detach() for name, value in values.items()})
    for step in reversed(steps):
        output_gradient = found[step.name]
        if output_gradient is not None and _rule_differs(forward, step, output_gradient):
            return step
    return None


def _traced_values(network: Network, image: Tensor) -> dict[str, Any]:
    """Every step's result with its graph, in the plain layout of memory."""
    sizes = network.sizes.at(1, network.image)
    values: dict[str, Any] = {
        network.image: image.detach().clone().contiguous().requires_grad_(),
        **sizes,
    }
    for step in network.steps:
        # Not in place of its input, whose gradient is wanted.
        values[step.name] = step.run(values)
    return {name: value for name, value in values.items() if name not in sizes}


def _gradients(response: Tensor, by: Sequence[Tensor]) -> list[Tensor | None]:
    known = [tensor for tensor in by if tensor.requires_grad]
    gradients = iter(
        torch.autograd.grad(response, known, retain_graph=True, allow_unused=True) if known else ()
    )
    return [next(gradients) if tensor.requires_grad else None for tensor in by]


def _rule_differs(forward: Forward, step: Step, output_gradient: Tensor) -> bool:
    """Whether the engine's rule for a step gives another gradient than autograd."""
    inputs = {
        name: forward.values[name].clone().requires_grad_()
        for name in step.inputs
        if forward.values[name].is_floating_point()
    }
    network = forward.network
    with torch.enable_grad():
        result = step.run({**forward.values, **network.sizes.at(1, network.image), **inputs})
        wanted = dict(
            zip(
                inputs,
                torch.autograd.grad(
                    result, list(inputs.values()), output_gradient, allow_unused=True
                ),
                strict=True,
            )
        )
    walk = BackwardWalk(forward, {})
    if output_gradient.dim() == 4:
        output_gradient = channels_last(output_gradient)
    with torch.no_grad():
        try:
            parts = list(rule_of(network, step)(walk, step, _stacked(step, output_gradient)))
        except RuntimeError:
            return True
        given = dict(_joined(step, parts))
        for name, reference in wanted.items():
            if reference is None:
                reference = torch.zeros_like(forward.values[name])
            if walk.gated:
                # The rule of a max-pool has taken its gradient through the ReLU before it.
                reference = reference * (forward.values[name] > 0)
            if _apart(given.get(name), reference):
                return True
    return False


def _stacked(step: Step, output_gradient: Tensor) -> Tensor:
    """One gradient as a rule takes it, which may write over it: (1, ...), or (1, rows, ...) of a
    step in whose result an image is folded into the batch."""
    gradient = output_gradient.clone()
    return gradient[None] if step.folded else gradient


def _joined(step: Step, parts: Sequence[Any]) -> Iterator[tuple[str, Tensor]]:
    """The gradient by each input of a step; a rule may give that of a concatenation in parts."""
    summed: dict[str, Tensor] = {}
    pieces = []
    for name, gradient, _ in parts:
        if name in step.inputs:
            summed[name] = summed[name] + gradient if name in summed else gradient
        else:
            pieces.append(gradient)
    if pieces:
        summed[step.inputs[0]] = torch.cat(pieces, 1)
    yield from summed.items()


def _apart(found: Tensor | None, wanted: Tensor) -> bool:
    return share(torch.zeros_like(wanted) if found is None else found, wanted) > _APART
