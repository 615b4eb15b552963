"""The gradients at every convolution upstream: of many units on one image, or of one unit on many.

The input maps of the upstream convolutions do not depend on the unit, so in the whole network they
are computed once per image (`forward.Forward`). The units of a block walk back as the batch axis of
every operation: few enough together that their maps stay in the processor's cache. In a pruned
network, which belongs to one unit, it is the images that walk back together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.backward import ConvGradient, backward
from circuit_atlas.jobs.engine.conv_input import one_row_input_gradient
from circuit_atlas.jobs.engine.forward import Forward, Maxima, unfold_input
from circuit_atlas.jobs.engine.targets import Response, Targets, response_gradient
from circuit_atlas.jobs.network.convolution import ConvGeometry, conv_geometry
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.step import Step

# 2, 4, 8 and 16 were tried on SqueezeNet at 224 x 224: maps of 4 units fill a 2 MiB cache.
_UNITS_TOGETHER = 4
# A GPU has no use for fewer than fit; what fits is settled where blocks are made (`memory`).
_UNITS_TOGETHER_ON_GPU = 1024


@dataclass(frozen=True)
class ConvCall:
    """One application of a convolution to one image, seen from a block of units.

    With g groups of i input and o output channels each, kernels of K weights, P output positions:

    Attributes:
        unfolded: gives the unfolded input, (g, i, K, P).
        weight: (g, o, i, K).
        output_gradients: pieces (units, g, o, P) of the gradient of each unit's response by the
            output Y, one after the other along the units.
        positions: P.
        input: the convolution's input itself; None where g are not the convolution's own groups.
        maxima: set where only maxima have a gradient: (g, o, maxima) their indices among the P, and
            which of them count. The pieces are then (units, g, o, maxima).
        centred: gives the unfolded input less its mean over the scoring images; None where that is
            not asked for.

    Where each unit reaches one output channel only, the rows of all units stand on the output
    (or group) axis instead, and `units` is 1.
    """

    unfolded: Callable[[], Tensor]
    weight: Tensor
    output_gradients: tuple[Tensor, ...]
    positions: int
    input: ConvInput | None
    maxima: tuple[Tensor, Tensor] | None
    centred: Callable[[], Tensor] | None = None

    @property
    def units(self) -> int:
        """The number of units in all pieces."""
        return sum(len(piece) for piece in self.output_gradients)

    def rows(self, rows: Tensor) -> ConvCall:
        """Gives the call with only those output channels; for an ungrouped convolution."""
        pieces = tuple(piece[:, :, rows] for piece in self.output_gradients)
        return replace(self, weight=self.weight[:, rows], output_gradients=pieces)


@dataclass(frozen=True)
class ConvInput:
    """A convolution's input, and how the convolution walks over it.

    Attributes:
        value: (1, channels, height, width).
        geometry: stride, padding, dilation and groups.
        kernel: height and width of a kernel.
        output_size: height and width of the output.
    """

    value: Tensor
    geometry: ConvGeometry
    kernel: tuple[int, int]
    output_size: tuple[int, int]


@dataclass(frozen=True)
class LayerPass:
    """A convolution with every call of it.

    Attributes:
        ordinal: the convolution's, among the network's sites.
        calls: one for each time that the network applies it.
        rows: the output channels that the calls are restricted to; None for all.
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
    mean_inputs: Mapping[str, Tensor] | None = None,
) -> Iterator[LayerPass]:
    """Walks back from a block of units over one image; yields every convolution that they reach.

    Args:
        forward: the image's values.
        targets: the units.
        response: the number that is explained.
        one_row: for each site in which every unit reaches a single row, the units' rows.
        mean_inputs: each step's mean unfolded input (g, i, K, 1), for `ConvCall.centred`. Default:
            none.
    """
    by_step = _by_step(forward, targets, response, one_row, at_maxima=True)
    yield from _passes(forward, by_step, one_row, mean_inputs)


def averaged_passes(
    forwards: Iterable[Forward],
    targets: Targets,
    response: Response,
    *,
    one_row: Mapping[int, Tensor],
    mean_inputs: Mapping[str, Tensor] | None = None,
) -> Iterator[LayerPass]:
    """Walks back from a block of units over several passes, of one image each; yields what
    `site_passes` does of the last, with the mean of all gradients.

    Args:
        forwards: one pass or more.
        targets, response, one_row, mean_inputs: as in `site_passes`.
    """
    means: dict[str, list[ConvGradient]] = {}
    count = 0
    for forward in forwards:
        last, count = forward, count + 1
        found = _by_step(forward, targets, response, one_row, at_maxima=False)
        for name, gradients in found.items():
            # A running mean, so that no sum grows beyond what the gradients are.
            means[name] = [
                replace(one, output_gradient=torch.lerp(before, one.output_gradient, 1 / count))
                for one, before in zip(
                    gradients,
                    (each.output_gradient for each in means.get(name, gradients)),
                    strict=True,
                )
            ]
    yield from _passes(last, means, one_row, mean_inputs)


def _by_step(
    forward: Forward,
    targets: Targets,
    response: Response,
    one_row: Mapping[int, Tensor],
    *,
    at_maxima: bool,
) -> dict[str, list[ConvGradient]]:
    """The gradients of each convolution's step, of some units after the others."""
    by_step: dict[str, list[ConvGradient]] = {}
    for units, part, gradient in unit_gradients(forward, targets, response):
        rows = {ordinal: of_units[units] for ordinal, of_units in one_row.items()}
        for each in _walk(forward, part, gradient, rows, at_maxima=at_maxima):
            by_step.setdefault(each.step.name, []).append(each)
    return by_step


def unit_gradients(
    forward: Forward, targets: Targets, response: Response
) -> Iterator[tuple[slice, Targets, Tensor]]:
    """Yields the units that walk back together over one image, with the gradients of their
    responses by their weighted sums of channels, (units, height, width)."""
    maps = targets.maps(forward.values[forward.network.target.name])
    gradient = targets.gated(response_gradient(maps, response), maps)[:, 0]
    together = _UNITS_TOGETHER if gradient.device.type == "cpu" else _UNITS_TOGETHER_ON_GPU
    for start in range(0, len(targets), together):
        units = slice(start, start + together)
        yield units, targets.part(units), gradient[units]


def _passes(
    forward: Forward,
    by_step: Mapping[str, list[ConvGradient]],
    one_row: Mapping[int, Tensor],
    mean_inputs: Mapping[str, Tensor] | None,
) -> Iterator[LayerPass]:
    for ordinal, site in enumerate(forward.network.sites):
        calls = tuple(
            conv_call(forward, by_step[name], one_row.get(ordinal), mean_inputs)
            for name in site.steps
            if name in by_step
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
    mean_inputs: Mapping[str, Tensor] | None = None,
) -> Iterator[tuple[int, LayerPass]]:
    """Walks back from one unit over each image of a pruned network; yields every convolution that
    it reaches, once for each image, with the image's index in the batch.

    Args:
        forward: the values of the images.
        target: the unit.
        response: the number that is explained.
        one_row: as in `site_passes`.
        live: for some ungrouped convolutions, the output channels whose gradient is not zero.
        mean_inputs: as in `site_passes`.
    """
    count = forward.images
    maps = target.maps(forward.values[forward.network.target.name])
    gradient = target.gated(response_gradient(maps, response), maps)[0]
    rows = {ordinal: row.expand(count) for ordinal, row in one_row.items()}
    walk = _walk(forward, target.repeated(count), gradient, rows, live=live, at_maxima=False)
    by_step = {conv_gradient.step.name: conv_gradient for conv_gradient in walk}
    for ordinal, site in enumerate(forward.network.sites):
        gradients = [by_step[name] for name in site.steps if name in by_step]
        if not gradients:
            continue
        unit_row = one_row.get(ordinal)
        by_row = unit_row is None and len(site.steps) == 1
        live_rows = live.get(site.steps[0]) if by_row else None
        for image in range(count):
            calls = (_image_call(forward, each, image, unit_row, mean_inputs) for each in gradients)
            if live_rows is not None:
                calls = (call.rows(live_rows) for call in calls)
            yield image, LayerPass(ordinal, tuple(calls), live_rows)


def _walk(
    forward: Forward,
    targets: Targets,
    gradient: Tensor,
    one_row: Mapping[int, Tensor],
    *,
    at_maxima: bool,
    live: Mapping[str, Tensor] | None = None,
) -> Iterator[ConvGradient]:
    """Yields every convolution with its output gradient: in the units' rows, (units, positions),
    where `one_row` names them; as in `ConvGradient` otherwise."""
    network = forward.network
    base = network.by_name[network.base]
    rows = one_row.get(-1 if base.convolution is None else base.convolution)
    site = network.sites[base.convolution or 0]
    if rows is not None and site.groups == 1 and len(site.steps) == 1:
        gradient = targets.in_rows(gradient, rows)
        if network.chain:
            slope = forward.chain_slope()
            images = torch.arange(len(slope), device=rows.device)
            gradient = gradient * slope[images, rows]
        yield ConvGradient(base, gradient.flatten(1), None)
        if base.inputs[0] == network.image:
            return
        weight = forward.weight(base)
        by_input = one_row_input_gradient(network, base, gradient, rows, weight)
        start = {base.inputs[0]: by_input}
    else:
        spread = targets.spread(gradient)
        start = {base.name: spread * forward.chain_slope() if network.chain else spread}
    for each in backward(forward, start, live=live, at_maxima=at_maxima):
        unit_rows = one_row.get(each.step.convolution or 0)
        if unit_rows is None:
            yield each
        else:
            units = torch.arange(len(unit_rows), device=unit_rows.device)
            in_rows = each.output_gradient.flatten(2)[units, unit_rows]
            yield ConvGradient(each.step, in_rows, each.maxima)


def conv_call(
    forward: Forward,
    gradients: Sequence[ConvGradient],
    rows: Tensor | None,
    mean_inputs: Mapping[str, Tensor] | None = None,
) -> ConvCall:
    """Makes the call of a convolution's step on the one image.

    Args:
        forward: the image's values.
        gradients: of the step, of some units after the others; (units, positions) with `rows`.
        rows: the row of each unit, where each reaches one alone. Default: they reach all.
        mean_inputs: as in `site_passes`.
    """
    step, maxima = gradients[0].step, gradients[0].maxima
    unfolded, value = partial(forward.unfolded, step), forward.values[step.inputs[0]]
    pieces = [each.output_gradient for each in gradients]
    call = _unfolded_call(forward.network, step, value, unfolded, pieces, rows, maxima)
    return _with_centred(forward.network, call, step, rows, mean_inputs)


def _image_call(
    forward: Forward,
    gradient: ConvGradient,
    image: int,
    rows: Tensor | None,
    mean_inputs: Mapping[str, Tensor] | None,
) -> ConvCall:
    step, only = gradient.step, slice(image, image + 1)
    value, piece = forward.values[step.inputs[0]][only], gradient.output_gradient[only]
    unfolded = partial(unfold_input, forward.network, step, value)
    call = _unfolded_call(forward.network, step, value, unfolded, [piece], rows, None)
    return _with_centred(forward.network, call, step, rows, mean_inputs)


def _with_centred(
    network: Network,
    call: ConvCall,
    step: Step,
    rows: Tensor | None,
    mean_inputs: Mapping[str, Tensor] | None,
) -> ConvCall:
    if mean_inputs is None:
        return call
    mean, unfolded = mean_inputs[step.name], call.unfolded
    site = network.sites[step.convolution or 0]
    if rows is not None and site.groups > 1:
        mean = mean[rows // (len(site.weight) // site.groups)]
    return replace(call, centred=lambda: unfolded() - mean)


def _unfolded_call(
    network: Network,
    step: Step,
    value: Tensor,
    unfolded: Callable[[], Tensor],
    output_gradients: list[Tensor],
    rows: Tensor | None,
    maxima: Maxima | None,
) -> ConvCall:
    site, (_, height, width) = network.sites[step.convolution or 0], step.shape
    groups = site.groups
    kernel = (int(site.weight.shape[2]), int(site.weight.shape[3]))
    conv_input = ConvInput(value, conv_geometry(step.args), kernel, (height, width))
    at = None if maxima is None else (maxima.argmax, maxima.alive)
    if rows is None:
        weight = site.weight.flatten(2).unflatten(0, (groups, -1))
        pieces = tuple(piece.flatten(2).unflatten(1, (groups, -1)) for piece in output_gradients)
        if at is not None:
            at = (at[0].unflatten(0, (groups, -1)), at[1].unflatten(0, (groups, -1)))
        return ConvCall(unfolded, weight, pieces, height * width, conv_input, at)
    row_weight = site.weight.flatten(2)[rows]
    flat = torch.cat(output_gradients)
    if groups == 1:
        at = None if at is None else (at[0][rows][None], at[1][rows][None])
        pieces = (flat[None, None],)
        return ConvCall(unfolded, row_weight[None], pieces, height * width, conv_input, at)
    at = None if at is None else (at[0][rows][:, None], at[1][rows][:, None])
    group = rows // (len(site.weight) // groups)
    pieces = (flat[None, :, None],)
    return ConvCall(
        lambda: unfolded()[group], row_weight[:, None], pieces, height * width, None, at
    )
