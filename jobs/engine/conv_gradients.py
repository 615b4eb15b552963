"""Backward passes: of a block of units over one image, or of one unit over a batch of images.

The input maps of the upstream convolutions do not depend on the unit, so in the whole network they
are computed once per image (`forward.Forward`). The units of a block walk back as the batch axis of
every operation: few enough together that their maps stay in the processor's cache. In a pruned
network, which belongs to one unit, it is the images that walk back together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.backward import ConvGradient, backward, one_row_input
from circuit_atlas.jobs.engine.forward import Forward, Maxima, columns
from circuit_atlas.jobs.engine.targets import Response, Targets, response_gradient
from circuit_atlas.jobs.network.convolution import ConvGeometry, conv_geometry
from circuit_atlas.jobs.network.graph import Network, Step

# 2, 4, 8 and 16 were tried on SqueezeNet at 224 x 224: maps of 4 units fill a 2 MiB cache.
_UNITS_TOGETHER = 4
# A GPU has no use for fewer than fit; what fits is settled where blocks are made (`memory`).
_UNITS_TOGETHER_ON_GPU = 1024


@dataclass(frozen=True)
class ConvCall:
    """One application of a convolution to one image, seen from a block of units.

    With g groups of i input and o output channels each, kernels of K weights, P output positions:

    Attributes:
        columns: gives (g, i, K, P), what each weight of each kernel meets at each position.
        weight: (g, o, i, K).
        cotangents: pieces (units, g, o, P) of the gradient of each unit's response by the output
            Y, one after the other along the units.
        positions: of the output.
        applied: the convolution itself, where g are its own groups.
        maxima: where only maxima have a cotangent: (g, o, maxima) their places among the P, and
            which of them count. The pieces are (units, g, o, maxima) then.

    Where each unit reaches one output channel alone, the rows of all units stand on the output
    (or group) axis instead, and `units` is 1.
    """

    columns: Callable[[], Tensor]
    weight: Tensor
    cotangents: tuple[Tensor, ...]
    positions: int
    applied: ConvInput | None
    maxima: tuple[Tensor, Tensor] | None

    @property
    def units(self) -> int:
        """Units of all pieces."""
        return sum(len(piece) for piece in self.cotangents)

    def rows(self, some: Tensor) -> ConvCall:
        """The call with some of its output channels alone; of an ungrouped convolution."""
        pieces = tuple(piece[:, :, some] for piece in self.cotangents)
        return replace(self, weight=self.weight[:, some], cotangents=pieces)


@dataclass(frozen=True)
class ConvInput:
    """A convolution's input (1, channels, h, w), how it walks over it, and heights and widths of
    its kernels and of its output."""

    value: Tensor
    geometry: ConvGeometry
    kernel: tuple[int, int]
    size: tuple[int, int]


@dataclass(frozen=True)
class LayerPass:
    """A convolution, by its ordinal among the network's sites, with every call of it.

    Attributes:
        ordinal: of the site.
        calls: its calls.
        rows: the output channels that the calls are of, where they are not all.
    """

    ordinal: int
    calls: tuple[ConvCall, ...]
    rows: Tensor | None = None


def site_passes(
    forward: Forward,
    targets: Targets,
    response: Response,
    *,
    one_row: Mapping[int, Tensor],
) -> Iterator[LayerPass]:
    """Walks back from a block of units over one image; yields every convolution that they reach.

    Args:
        forward: the image's values.
        targets: the units.
        response: what is explained.
        one_row: for each site of which every unit reaches a single row, the units' rows.
    """
    maps = targets.maps(forward.values[forward.network.target.name])
    gradient = response_gradient(maps, response)[:, 0]
    arrived: dict[str, list[ConvGradient]] = {}
    together = _UNITS_TOGETHER if gradient.device.type == "cpu" else _UNITS_TOGETHER_ON_GPU
    for start in range(0, len(targets), together):
        some = slice(start, start + together)
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
            yield LayerPass(ordinal, calls)


def image_passes(
    forward: Forward,
    target: Targets,
    response: Response,
    *,
    one_row: Mapping[int, Tensor],
    live: Mapping[str, Tensor],
) -> Iterator[tuple[int, LayerPass]]:
    """As `site_passes`, of one unit over each of the images of a pruned network; with every
    convolution comes the image's place among them.

    Args:
        forward: the values of the images.
        target: the unit.
        response: what is explained.
        one_row: as in `site_passes`.
        live: of some ungrouped convolutions, the output channels whose cotangent is not zero.
    """
    count = forward.images
    maps = target.maps(forward.values[forward.network.target.name])
    gradient = response_gradient(maps, response)[0]
    rows = {ordinal: own.expand(count) for ordinal, own in one_row.items()}
    arrived = {
        a.step.name: a for a in _walk(forward, target.repeated(count), gradient, rows, live=live)
    }
    for ordinal, site in enumerate(forward.network.sites):
        arrivals = [arrived[name] for name in site.steps if name in arrived]
        if not arrivals:
            continue
        own = one_row.get(ordinal)
        by_row = own is None and len(site.steps) == 1
        kept = live.get(site.steps[0]) if by_row else None
        for image in range(count):
            calls = (_image_call(forward, a, image, own) for a in arrivals)
            if kept is not None:
                calls = (call.rows(kept) for call in calls)
            yield image, LayerPass(ordinal, tuple(calls), kept)


def _walk(
    forward: Forward,
    targets: Targets,
    gradient: Tensor,
    one_row: Mapping[int, Tensor],
    *,
    live: Mapping[str, Tensor] | None = None,
) -> Iterator[ConvGradient]:
    """Every convolution with its cotangent: (units, positions) of the units' own rows where
    `one_row` names them, as in `ConvGradient` otherwise."""
    network = forward.network
    target = network.target
    rows = one_row.get(-1 if target.convolution is None else target.convolution)
    site = network.sites[target.convolution or 0]
    if rows is not None and site.groups == 1 and len(site.steps) == 1:
        yield ConvGradient(target, gradient.flatten(1), None)
        if target.inputs[0] == network.image:
            return
        weight = forward.weight(target)
        start = {target.inputs[0]: one_row_input(network, target, gradient, rows, weight)}
    else:
        start = {target.name: targets.spread(gradient)}
    for arrival in backward(forward, start, live=live, at_maxima=live is None):
        own = one_row.get(arrival.step.convolution or 0)
        if own is None:
            yield arrival
        else:
            units = torch.arange(len(own), device=own.device)
            cotangent = arrival.cotangent.flatten(2)[units, own]
            yield ConvGradient(arrival.step, cotangent, arrival.maxima)


def _call(forward: Forward, arrivals: list[ConvGradient], rows: Tensor | None) -> ConvCall:
    step, maxima = arrivals[0].step, arrivals[0].maxima
    laid, value = partial(forward.columns, step), forward.values[step.inputs[0]]
    cotangents = [arrival.cotangent for arrival in arrivals]
    return _laid_call(forward.network, step, value, laid, cotangents, rows, maxima)


def _image_call(
    forward: Forward, arrival: ConvGradient, image: int, rows: Tensor | None
) -> ConvCall:
    step, some = arrival.step, slice(image, image + 1)
    value = forward.values[step.inputs[0]][some]
    laid = partial(columns, forward.network, step, value)
    return _laid_call(forward.network, step, value, laid, [arrival.cotangent[some]], rows, None)


def _laid_call(
    network: Network,
    step: Step,
    value: Tensor,
    laid: Callable[[], Tensor],
    cotangents: list[Tensor],
    rows: Tensor | None,
    maxima: Maxima | None,
) -> ConvCall:
    site, (_, height, width) = network.sites[step.convolution or 0], step.shape
    groups = site.groups
    kernel = (int(site.weight.shape[2]), int(site.weight.shape[3]))
    applied = ConvInput(value, conv_geometry(step.args), kernel, (height, width))
    at = None if maxima is None else (maxima.places, maxima.alive)
    if rows is None:
        weight = site.weight.flatten(2).unflatten(0, (groups, -1))
        pieces = tuple(piece.flatten(2).unflatten(1, (groups, -1)) for piece in cotangents)
        if at is not None:
            at = (at[0].unflatten(0, (groups, -1)), at[1].unflatten(0, (groups, -1)))
        return ConvCall(laid, weight, pieces, height * width, applied, at)
    own = site.weight.flatten(2)[rows]
    flat = torch.cat(cotangents)
    if groups == 1:
        at = None if at is None else (at[0][rows][None], at[1][rows][None])
        return ConvCall(laid, own[None], (flat[None, None],), height * width, applied, at)
    at = None if at is None else (at[0][rows][:, None], at[1][rows][:, None])
    group = rows // (len(site.weight) // groups)
    pieces = (flat[None, :, None],)
    return ConvCall(lambda: laid()[group], own[:, None], pieces, height * width, None, at)
