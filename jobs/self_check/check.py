"""The self-check: the engine held against the model itself on one image and two units.

The engine computes with a traced graph and with rules of its own. The model is run as it is, by
torch's autograd alone. Compared are each unit's map, the scores of its kernels, that no kernel
which is said not to reach it has a gradient, and its map in a circuit.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.jobs.self_check.answers import Answers, answers, circuit_map
from circuit_atlas.jobs.self_check.difference import ratio, share
from circuit_atlas.jobs.self_check.module_run import LayerOutput
from circuit_atlas.jobs.self_check.parting import where_they_part
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, one_line

MOST = 1e-3
"""The largest relative difference with which a layer is taken."""

# Of the largest score: what rounding leaves of a gradient that is zero.
_ZERO = 1e-6
# A value next to a ReLU's corner falls to either side in float32. Up to this a difference is taken
# all the same, where there is none in float64.
_MOST_ROUNDING = 1e-2
_EXACT = 1e-5
_KEPT = 0.8
_REMEDY = "choose another layer, or set self_check = false under [run] to build it all the same"
_UNITS = 2
# Units to choose from, so that thousands of directions are not all run.
_CANDIDATES = 64


@dataclass(frozen=True)
class SelfCheck:
    """What a self-check found.

    Attributes:
        layer: the layer that was looked at.
        difference: the largest, as a share of the largest value.
        unseen: convolutions that the model never ran as one, so that they were not compared.
    """

    layer: str
    difference: float
    unseen: tuple[str, ...]

    @property
    def remarks(self) -> tuple[str, ...]:
        """What could not be looked at, a line each."""
        if not self.unseen:
            return ()
        return (
            f"layer {self.layer!r}: the self-check could not compare "
            f"{listed(self.unseen, most=4)}, which the model does not run as convolutions",
        )


def check_layer(
    graph: ModelGraph,
    module: nn.Module,
    layer: TracedLayer,
    image: Tensor,
    numbers: Sequence[int],
    response: Response,
) -> SelfCheck:
    """Checks a layer.

    Args:
        graph: the traced model.
        module: the model that it was traced from.
        layer: the layer.
        image: (1, channels, height, width).
        numbers: the units that are to be computed; two of them are looked at.
        response: the number that is explained.

    Raises:
        ModelError: the engine and the model differ by more than `MOST`; the message names the
            operation at which they part.
    """
    try:
        with _full_precision():
            return _check(graph, module, layer, image, numbers, response)
    except (ModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # the model's own code, or an operation that the engine cannot do
        raise ModelError(
            f"layer {layer.index.layer!r} fails the self-check, which ended with "
            f"{type(error).__name__}: {one_line(error)}; {_REMEDY}"
        ) from error


def _check(
    graph: ModelGraph,
    module: nn.Module,
    layer: TracedLayer,
    image: Tensor,
    numbers: Sequence[int],
    response: Response,
) -> SelfCheck:
    output = LayerOutput.of(graph, layer)
    image, units = _responding(layer, image, numbers)
    own = answers(module, output, image, units, response)
    try:
        differences = _differences(module, output, image, units, response, own)
    except RuntimeError as error:
        where = where_they_part(graph, module, output, image, units[0], response)
        if where is None:
            raise
        raise ModelError(
            f"layer {layer.index.layer!r} fails the self-check: the engine cannot compute "
            f"{where.location} ({one_line(error)}); {_REMEDY}"
        ) from error
    largest = max(differences, key=lambda name: differences[name])
    if differences[largest] > MOST and not _is_rounding(
        module, layer, image, units, response, differences[largest]
    ):
        where = where_they_part(graph, module, output, image, units[0], response)
        raise ModelError(_refusal(layer, largest, differences[largest], own, where))
    seen = {ordinal for ordinal in own.owners if ordinal is not None}
    unseen = (
        site.name
        for ordinal, site in enumerate(layer.network.sites)
        if ordinal in layer.upstream.ordinals and ordinal not in seen
    )
    return SelfCheck(layer.index.layer, differences[largest], tuple(unseen))


def _responding(
    layer: TracedLayer, image: Tensor, numbers: Sequence[int]
) -> tuple[Tensor, list[int]]:
    """An image on which units respond, and two of them: the one that responds most and one in the
    middle. Noise takes the image's place where no unit responds to it."""
    candidates = list(numbers[:: max(1, len(numbers) // _CANDIDATES)])
    targets = layer.targets(candidates)
    noise = torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).to(image)
    for tried in (image, noise):
        with torch.no_grad():
            maps = targets.maps(layer.network.output(tried))
        strength = maps.abs().flatten(1).sum(1).nan_to_num(0.0, 0.0, 0.0).cpu().numpy()
        order = [candidates[n] for n in np.argsort(-strength, kind="stable") if strength[n] > 0]
        if order:
            return tried, list(dict.fromkeys((order[0], order[len(order) // 2])))[:_UNITS]
    return image, candidates[:_UNITS]


def _differences(
    module: nn.Module,
    output: LayerOutput,
    image: Tensor,
    units: Sequence[int],
    response: Response,
    own: Answers,
) -> dict[str, float]:
    """The largest difference of each kind, as a share of the largest value."""
    layer = output.layer
    with torch.no_grad():
        maps = layer.targets(units).maps(layer.network.output(image))[:, 0]
    found = {"responses": max(share(a, b) for a, b in zip(maps, own.maps, strict=True))}
    scores = _engine_scores(layer, image, units, response)
    found["scores"], found["reach"], found["circuits"] = 0.0, 0.0, 0.0
    for row, number in enumerate(units):
        reachable = layer.reachable(number)
        snip, signed = own.snip[row], own.contribution[row]
        largest = max(float(snip.max(initial=0.0)), own.outside[row])
        for mine, wanted, floor in (
            (scores["snip"][row], snip, largest),
            (scores[CONTRIBUTION][row], signed, 0.0),
        ):
            on_axis = (torch.from_numpy(values[reachable]) for values in (mine, wanted))
            found["scores"] = max(found["scores"], share(*on_axis, floor=floor))
        outside = max(own.outside[row], float(snip[~reachable].max(initial=0.0)))
        if ratio(outside, largest) > _ZERO:
            found["reach"] = float("inf")
        mask = reachable & (np.random.default_rng(number).random(len(reachable)) < _KEPT)
        circuit = circuit_maps(layer, number, mask[None], image)[0, 0]
        theirs = circuit_map(module, output, image, number, mask, own.owners)
        # A circuit that is all but silent is compared with the whole network.
        floor = MOST * float(own.maps[row].abs().max())
        found["circuits"] = max(found["circuits"], share(circuit, theirs, floor=floor))
    return found


def _engine_scores(
    layer: TracedLayer, image: Tensor, units: Sequence[int], response: Response
) -> dict[str, NDArray[np.float32]]:
    """(units, kernels) of `snip`, the units walking back alone, and of the contribution as it comes
    with `actgrad`, the units together."""
    found = {}
    for criteria, together in ((["snip"], 1), (["actgrad", CONTRIBUTION], len(units))):
        scores = score_images(
            layer,
            units,
            [image],
            keep=dict.fromkeys(units, ()),
            criteria=criteria,
            response=response,
            block=together,
        )
        found[criteria[-1]] = scores[criteria[-1]].mean
    return found


def _is_rounding(
    module: nn.Module,
    layer: TracedLayer,
    image: Tensor,
    units: Sequence[int],
    response: Response,
    difference: float,
) -> bool:
    """Whether the engine and the model agree in float64, for which the model is traced anew."""
    if difference > _MOST_ROUNDING:
        return False
    exact = copy.deepcopy(module)
    if image.device.type == "mps":
        exact, image = exact.cpu(), image.cpu()
    exact, image = exact.double(), image.double()
    graph = ModelGraph(exact, tuple(image.shape[1:]))
    activation = layer.index.activation
    directions = layer.directions
    again = open_layer(graph, layer.index.layer, lambda _: directions, activation=activation)
    output = LayerOutput.of(graph, again)
    own = answers(exact, output, image, units, response)
    differences = _differences(exact, output, image, units, response, own)
    return max(differences.values()) <= _EXACT


def _refusal(
    layer: TracedLayer, kind: str, difference: float, own: Answers, where: Step | None
) -> str:
    at = f"they part at {where.location}; " if where is not None else ""
    stray = listed(sorted(set(filter(None, own.stray)))) or "a convolution"
    what = (
        f"the response depends on kernels of {stray} that the traced network has no path from"
        if kind == "reach"
        else f"its {kind} differ from the model's own by {difference:.2g} of the largest, and at "
        f"most {MOST:g} is taken"
    )
    return f"layer {layer.index.layer!r} fails the self-check: {what}; {at}{_REMEDY}"


@contextmanager
def _full_precision() -> Iterator[None]:
    """No TF32, whose ten bits would hide what is looked for."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
