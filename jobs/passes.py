"""Backward passes of a block of units over one image, a few units at a time.

The input maps of the upstream convolutions do not depend on the unit, so they are computed once
per image (`forward.Forward`). The units of a block walk back as the batch axis of every operation:
few enough together that their maps stay in the processor's cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from circuit_atlas.jobs.forward import Forward
from circuit_atlas.jobs.gradients import Arrival, backward, one_row_input
from circuit_atlas.jobs.targets import Response, Targets, response_gradient

# 2, 4, 8 and 16 were tried on SqueezeNet at 224 x 224: maps of 4 units fill a 2 MiB cache.
_UNITS_TOGETHER = 4


@dataclass(frozen=True)
class Call:
    """One application of a convolution to one image, seen from a block of units.

    With g groups of i input and o output channels each, kernels of K weights, P output positions:

    Attributes:
        columns: (g, i, K, P) what each weight of each kernel meets at each position.
        weight: (g, o, i, K).
        cotangents: pieces (units, g, o, P) of the gradient of each unit's response by the output
            Y, one after the other along the units.
        positions: of the output; more than P where only some of them have a cotangent.

    Where each unit reaches one output channel alone, the rows of all units stand on the output
    (or group) axis instead, and `units` is 1.
    """

    columns: Tensor
    weight: Tensor
    cotangents: tuple[Tensor, ...]
    positions: int

    @property
    def units(self) -> int:
        """Units of all pieces."""
        return sum(len(piece) for piece in self.cotangents)


@dataclass(frozen=True)
class SitePass:
    """A convolution, by its ordinal among the network's sites, with every call of it."""

    ordinal: int
    calls: tuple[Call, ...]


def site_passes(
    forward: Forward,
    targets: Targets,
    response: Response,
    *,
    one_row: Mapping[int, Tensor],
) -> Iterator[SitePass]:
    """Walks back from a block of units over one image; yields every convolution that they reach.

    Args:
        forward: the image's values.
        targets: the units.
        response: what is explained.
        one_row: for each site of which every unit reaches a single row, the units' rows.
    """
    maps = targets.maps(forward.values[forward.network.target.name])
    gradient = response_gradient(maps, response)[:, 0]
    arrived: dict[str, list[Arrival]] = {}
    for start in range(0, len(targets), _UNITS_TOGETHER):
        some = slice(start, start + _UNITS_TOGETHER)
        rows = {ordinal: own[some] for ordinal, own in one_row.items()}
        for arrival in _walk(forward, targets.part(some), gradient[some], rows):
            arrived.setdefault(arrival.step.name, []).append(arrival)
    for ordinal, site in enumerate(forward.network.sites):
        calls = tuple(
            _call(forward, arrived[name], one_row.get(ordinal))
            for name in site.steps
            if name in arrived
        )
        if calls:
            yield SitePass(ordinal, calls)


def _walk(
    forward: Forward, targets: Targets, gradient: Tensor, one_row: Mapping[int, Tensor]
) -> Iterator[Arrival]:
    """Every convolution with its cotangent: (units, positions) of the units' own rows where
    `one_row` names them, as in `Arrival` otherwise."""
    network = forward.network
    target = network.target
    rows = one_row.get(-1 if target.convolution is None else target.convolution)
    site = network.sites[target.convolution or 0]
    if rows is not None and site.groups == 1 and len(site.steps) == 1:
        yield Arrival(target, gradient.flatten(1), None)
        if target.inputs[0] == network.image:
            return
        weight = forward.weight(target)
        start = {target.inputs[0]: one_row_input(network, target, gradient, rows, weight)}
    else:
        start = {target.name: targets.spread(gradient)}
    for arrival in backward(forward, start):
        own = one_row.get(arrival.step.convolution or 0)
        if own is None:
            yield arrival
        else:
            units = torch.arange(len(own), device=own.device)
            cotangent = arrival.cotangent.flatten(2)[units, own]
            yield Arrival(arrival.step, cotangent, arrival.pool)


def _call(forward: Forward, arrivals: list[Arrival], rows: Tensor | None) -> Call:
    step, pool = arrivals[0].step, arrivals[0].pool
    site = forward.network.sites[step.convolution or 0]
    positions = step.shape[1] * step.shape[2]
    groups = site.groups
    if pool is not None:
        # Each output channel has positions of its own, so each is a group of its own.
        groups = len(site.weight)
        laid = forward.pooled_columns(step, pool)
    else:
        laid = forward.columns(step)
    if rows is None:
        weight = site.weight.flatten(2).unflatten(0, (groups, -1))
        pieces = [a.cotangent.flatten(2).unflatten(1, (groups, -1)) for a in arrivals]
        return Call(laid, weight, tuple(pieces), positions)
    own = site.weight.flatten(2)[rows]
    flat = torch.cat([arrival.cotangent for arrival in arrivals])
    if groups == 1:
        return Call(laid, own[None], (flat[None, None],), positions)
    group = rows // (len(site.weight) // groups)
    return Call(laid[group], own[:, None], (flat[None, :, None],), positions)
