"""One forward pass per image, shared by every unit of a layer; backward passes in blocks.

The input maps of the upstream convolutions do not depend on the unit, so they are computed once
per image. The units of a block walk back together, as the batch axis of every operation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from circuit_atlas.jobs.gradients import Values, backward, one_row_input, weight_of
from circuit_atlas.jobs.graph import Network, Replaced, Step, conv_geometry
from circuit_atlas.jobs.targets import Response, Targets, response_gradient


@dataclass(frozen=True)
class Call:
    """One application of a convolution to one image, seen from a block of units.

    With g groups of i input and o output channels each, kernels of K weights, P output positions:

    Attributes:
        columns: (g, i, K, P) what each weight of each kernel meets at each position.
        weight: (g, o, i, K).
        cotangent: (units, g, o, P) gradient of each unit's response by the output Y.

    Where each unit reaches one output channel alone, the rows of all units stand on the output
    (or group) axis instead, and `units` is 1.
    """

    columns: Tensor
    weight: Tensor
    cotangent: Tensor


@dataclass(frozen=True)
class SitePass:
    """A convolution with every call of it; `rows` are the units' own rows, or None for all."""

    ordinal: int
    calls: tuple[Call, ...]
    rows: Tensor | None


def slice_values(values: Values, image: int) -> dict[str, Tensor]:
    """The values of one image of a batch, the batch axis kept."""
    return {name: value[image : image + 1] for name, value in values.items()}


def columns(network: Network, step: Step, value: Tensor) -> Tensor:
    """Input of a convolution laid out by what each weight meets: (1, channels, h, w) ->
    (groups, channels / groups, K, positions)."""
    if step.convolution is None:
        raise ValueError(f"{step.name} is no convolution")
    weight = network.sites[step.convolution].weight
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


def site_passes(
    network: Network,
    values: Values,
    targets: Targets,
    response: Response,
    *,
    one_row: dict[int, Tensor],
    replaced: Replaced | None = None,
) -> Iterator[SitePass]:
    """Walks back from a block of units over one image, convolution by convolution.

    Args:
        network: the traced network.
        values: one image's values.
        targets: the units.
        response: what is explained.
        one_row: for each site of which every unit reaches a single row, the units' rows.
        replaced: what the forward pass used in place of the model's own weights; the calls still
            carry the model's own.
    """
    target = network.target
    maps = targets.maps(values[target.name])
    gradient = response_gradient(maps, response)[:, 0]
    waiting: dict[int, list[Call]] = {}
    for step, rows, cotangent in _walk(network, values, targets, gradient, one_row, replaced):
        ordinal = step.convolution
        if ordinal is None:
            continue
        call = _call(network, step, values, cotangent, rows)
        waiting.setdefault(ordinal, []).append(call)
        # A convolution that is applied twice has one score, from all of its calls.
        if step.name == network.sites[ordinal].steps[0]:
            yield SitePass(ordinal, tuple(waiting.pop(ordinal)), rows)


def _walk(
    network: Network,
    values: Values,
    targets: Targets,
    gradient: Tensor,
    one_row: dict[int, Tensor],
    replaced: Replaced | None,
) -> Iterator[tuple[Step, Tensor | None, Tensor]]:
    """Every convolution with the units' rows, if they have a single one, and the cotangent:
    (units, h, w) then, (units, out, h, w) otherwise."""
    target = network.target
    rows = one_row.get(-1 if target.convolution is None else target.convolution)
    site = network.sites[target.convolution or 0]
    if rows is not None and site.groups == 1 and len(site.steps) == 1:
        yield target, rows, gradient
        weight = weight_of(network, target, replaced)
        start = {target.inputs[0]: one_row_input(network, target, gradient, rows, weight)}
    else:
        start = {target.name: targets.spread(gradient)}
    if list(start) == [network.image]:
        return
    for step, cotangent in backward(network, values, start, replaced=replaced):
        rows_of = None if step.convolution is None else one_row.get(step.convolution)
        if rows_of is None:
            yield step, None, cotangent
        else:
            yield step, rows_of, cotangent[torch.arange(len(rows_of)), rows_of]


def _call(
    network: Network, step: Step, values: Values, cotangent: Tensor, rows: Tensor | None
) -> Call:
    site = network.sites[step.convolution or 0]
    laid = columns(network, step, values[step.inputs[0]])
    weight = site.weight.flatten(2).unflatten(0, (site.groups, -1))
    if rows is None:
        spread = cotangent.flatten(2).unflatten(1, (site.groups, -1))
        return Call(laid, weight, spread)
    own = site.weight.flatten(2)[rows]
    flat = cotangent.flatten(1)
    if site.groups == 1:
        return Call(laid, own[None], flat[None, None])
    group = rows // (len(site.weight) // site.groups)
    return Call(laid[group], own[:, None], flat[None, :, None])
