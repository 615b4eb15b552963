"""One unit of one layer: the engine held against the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.extraction.small_network import small_network
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import score_images
from tests.zoo import oracle
from tests.zoo.oracle import Call, Read

_KEPT = 0.8
# Of an extracted circuit too, where more channels are constants.
_FEW_KEPT = 0.3
Masks = dict[int, Tensor]


@dataclass(frozen=True)
class Errors:
    """How far the engine is from the oracle, as shares of the largest value.

    Attributes:
        response: of the unit's map.
        snip, contribution: of the scores.
        circuit: of the unit's map in a circuit.
        extracted: of the unit's map in networks that were extracted of that circuit and of another.
        outside: the largest `snip` of a kernel that is said not to reach the unit.
        kernels: how many are said to reach it.
        unseen: convolutions of the engine that the module never runs.
    """

    response: float
    snip: float
    contribution: float
    circuit: float
    extracted: float
    outside: float
    kernels: int
    unseen: tuple[str, ...]

    @property
    def largest(self) -> float:
        """The largest of the errors."""
        scores = max(self.snip, self.contribution, self.outside)
        return max(self.response, scores, self.circuit, self.extracted)


def compare(
    graph: ModelGraph, module: nn.Module, layer: TracedLayer, image: Tensor, unit: int
) -> Errors:
    """Compares one unit on one image (1, channels, height, width), all in float64."""
    read = reading(graph, layer)
    calls, gradients = oracle.gradients(module, read, image, unit)
    # A convolution of folded images stays whole.
    gradients = [
        None if call.folded else gradient for call, gradient in zip(calls, gradients, strict=True)
    ]
    owner = owners(layer, module, calls)
    snip, outside = on_axis(layer, unit, _snip(calls, gradients, owner))
    signed, _ = on_axis(layer, unit, _contribution(calls, gradients, owner))
    reachable = layer.reachable(unit)
    largest = max(float(snip.max(initial=0.0)), outside) or 1.0
    largest_signed = float(np.abs(signed).max(initial=0.0)) or 1.0
    found = _engine(layer, unit, image)
    drawn = np.random.default_rng(0).random(len(reachable))
    mask, few = reachable & (drawn < _KEPT), reachable & (drawn < _FEW_KEPT)
    whole = oracle.masked(module, read, image, unit, [None] * len(calls))

    def masked(mask: NDArray[np.bool_]) -> Tensor:
        masks = _by_ordinal(layer, unit, mask)
        of_calls = [masks.get(owner.get(n, -1)) for n in range(len(calls))]
        return oracle.masked(module, read, image, unit, of_calls)

    circuit = masked(mask)
    with torch.no_grad():
        response = layer.targets([unit]).maps(layer.network.output(image))[0, 0]
    sites = layer.network.sites
    return Errors(
        response=_share(response, whole),
        snip=float(np.abs(found["snip"] - snip)[reachable].max(initial=0.0)) / largest,
        contribution=float(np.abs(found[CONTRIBUTION] - signed)[reachable].max(initial=0.0))
        / largest_signed,
        circuit=_share(circuit_maps(layer, unit, mask[None], image)[0, 0], circuit),
        extracted=max(
            _share(extracted(layer, unit, mask, image), circuit),
            _share(extracted(layer, unit, few, image), masked(few)),
        ),
        outside=max(outside, float(snip[~reachable].max(initial=0.0))) / largest,
        kernels=int(reachable.sum()),
        unseen=tuple(
            sites[n].name for n in layer.upstream.ordinals if n not in set(owner.values())
        ),
    )


def extracted(layer: TracedLayer, unit: int, mask: NDArray[np.bool_], image: Tensor) -> Tensor:
    """The unit's map in the small network of a circuit."""
    weights = pruned_weights(layer, unit, mask, None)
    small = small_network(layer.network, weights, layer.reads(unit), layer.targets([unit]))
    maps: Tensor = small.module(image)
    return maps[0]


def reading(graph: ModelGraph, layer: TracedLayer) -> Read:
    """What is read of the module, and what the engine says follows it: that is its word for y."""
    network = layer.network
    own = network.by_name[graph.results[graph.returned(layer.index.layer)]]

    def apply(output: Tensor) -> Tensor:
        values: dict[str, Any] = {own.name: output, **network.sizes.at(1, network.image)}
        for step in network.steps[network.steps.index(own) + 1 :]:
            if all(name in values for name in step.inputs):
                values[step.name] = step.run(values)
        result: Tensor = values[network.target.name]
        return result

    return Read(layer.index.layer, own.shape, apply)


def owners(layer: TracedLayer, module: nn.Module, calls: Sequence[Call]) -> dict[int, int]:
    """Which of the engine's convolutions, by ordinal, each call is of: by its parameter, or by its
    weight where that is computed."""
    names: dict[int, set[str]] = {}
    stored = (module.named_parameters, module.named_buffers)
    for name, tensor in (each for list_of in stored for each in list_of(remove_duplicate=False)):
        names.setdefault(id(tensor), set()).add(name)
    sites = layer.network.sites
    left = {n: len(site.steps) for n, site in enumerate(sites) if site.parameter is None}
    owner: dict[int, int] = {}
    for number, call in enumerate(calls):
        known = [n for n, s in enumerate(sites) if s.parameter in names.get(id(call.given), ())]
        same = [
            n
            for n, uses in left.items()
            if uses
            and sites[n].weight.shape == call.given.shape
            and torch.allclose(sites[n].weight, call.given, rtol=1e-4)
        ]
        if known:
            owner[number] = known[0]
        elif same and call.leads:
            left[same[0]] -= 1
            owner[number] = same[0]
    return owner


def on_axis(
    layer: TracedLayer, unit: int, scores: Mapping[int, Tensor]
) -> tuple[NDArray[np.float64], float]:
    """Scores (out, in) by ordinal -> (kernels,), and the largest of what is not on the axis."""
    left = dict(scores)
    pieces, outside = [], 0.0
    unit_rows = iter(layer.upstream.rows[unit])
    for ordinal, (_, convolution, site) in zip(
        layer.upstream.ordinals, layer.pieces(), strict=True
    ):
        values = left.pop(ordinal, torch.zeros(site.weight.shape[:2], dtype=torch.float64))
        if convolution.one_row:
            row = next(unit_rows)
            rest = torch.cat([values[:row], values[row + 1 :]])
            outside = max([outside, *rest.flatten().abs().tolist()])
            values = values[row]
        pieces.append(values.flatten())
    outside = max([outside, *(float(values.abs().max()) for values in left.values())])
    return torch.cat(pieces).numpy(), outside


def _snip(
    calls: Sequence[Call], gradients: Sequence[Tensor | None], owner: Mapping[int, int]
) -> Masks:
    """Mean over a kernel's weights of |w dr/dw|, by ordinal; calls of no convolution of the
    engine's have a number below zero."""
    worth: Masks = {}
    for number, (call, gradient) in enumerate(zip(calls, gradients, strict=True)):
        if gradient is not None:
            key = owner.get(number, -1 - number)
            worth[key] = worth.get(key, torch.zeros_like(gradient)) + call.given * gradient
    return {key: each.abs().flatten(2).mean(2) for key, each in worth.items()}


def _contribution(
    calls: Sequence[Call], gradients: Sequence[Tensor | None], owner: Mapping[int, int]
) -> Masks:
    """Mean over positions of A dr/dY, which is the sum of w dr/dw over the kernel, by ordinal."""
    signed: Masks = {}
    for number, (call, gradient) in enumerate(zip(calls, gradients, strict=True)):
        if gradient is not None:
            key = owner.get(number, -1 - number)
            each = (call.given * gradient).flatten(2).sum(2) / call.positions
            signed[key] = signed.get(key, torch.zeros_like(each)) + each
    return signed


def _engine(layer: TracedLayer, unit: int, image: Tensor) -> dict[str, NDArray[np.float32]]:
    found = {}
    for criteria in (["snip"], ["actgrad", CONTRIBUTION]):
        scores = score_images(
            layer,
            [unit],
            [image],
            keep={unit: []},
            criteria=criteria,
            response="sum_abs",
            block=1,
        )
        found[criteria[-1]] = scores[criteria[-1]].mean[0]
    return found


def _by_ordinal(layer: TracedLayer, unit: int, mask: NDArray[np.bool_]) -> Masks:
    masks = {}
    unit_rows = iter(layer.upstream.rows[unit])
    for ordinal, (piece, convolution, site) in zip(
        layer.upstream.ordinals, layer.pieces(), strict=True
    ):
        kernels = torch.from_numpy(mask[piece].reshape(convolution.rows, convolution.in_channels))
        if convolution.one_row:
            whole = torch.zeros(site.weight.shape[:2], dtype=torch.bool)
            whole[next(unit_rows)] = kernels[0]
            kernels = whole
        masks[ordinal] = kernels
    return masks


def _share(found: Tensor, wanted: Tensor) -> float:
    if found.shape != wanted.shape:
        return float("inf")
    scale = float(wanted.abs().max()) or 1.0
    return float((found - wanted).abs().max()) / scale
