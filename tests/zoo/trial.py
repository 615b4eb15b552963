"""A network of the zoo tried: a layer or two of it traced, checked, and held against the oracle."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.self_check.check import check_layer
from circuit_atlas.storage_schema.errors import AtlasError, ModelError
from tests.zoo import oracle
from tests.zoo.compare import compare
from tests.zoo.doubled import doubled
from tests.zoo.networks import ZooNetwork

TOLERANCE = 1e-5
"""The largest error, as a share of the largest score, with which a network works."""
_ROUNDED = 1e-7
# The least variance of norms, of that of noise.
_VARIANCES = (0.5, 1.0)


@dataclass(frozen=True)
class Trial:
    """What a trial found.

    Attributes:
        key: the network's.
        family: its family.
        layers: those that were looked at.
        error: the largest in float64; None where a layer was refused.
        self_check: the largest difference of the self-check, in float32.
        refused: why a layer was refused; "" where none was.
        seconds: how long the trial took.
    """

    key: str
    family: str
    layers: tuple[str, ...]
    error: float | None
    self_check: float | None
    refused: str
    seconds: float

    @property
    def state(self) -> str:
        """Says in a word how it went."""
        if self.refused:
            return "refused"
        return "works" if self.error is not None and self.error <= TOLERANCE else "wrong"

    def to_json(self) -> dict[str, Any]:
        """Gives its fields."""
        return asdict(self)


def try_network(network: ZooNetwork) -> Trial:
    """Builds a network with weights drawn anew, and tries a convolution and a block of it.

    Random weights may leave a deep network so unsteady that float32 rounding decides what it gives,
    and it is refused: then it gets norms that steady it.
    """
    for least in _VARIANCES:
        trial = _try_network(network, least)
        if not trial.refused:
            break
    return trial


def _try_network(network: ZooNetwork, least: float) -> Trial:
    started = time.perf_counter()
    layers: tuple[str, ...] = ()
    error: float | None = None
    difference: float | None = None
    refused = ""
    try:
        torch.manual_seed(0)
        module = oracle.prepare(network.make(), network.shape, least)
        graph = ModelGraph(module, network.shape)
        layers = network.layers or chosen_layers(module, graph)
        image = noise(network.shape)
        opened = [open_layer(graph, name, activation="post") for name in layers]
        difference = max(
            check_layer(
                graph, module, layer, image, range(layer.index.channels), "sum_abs"
            ).difference
            for layer in opened
        )
        module = module.double()
        image = image.double()
        error = max(error_of(graph, module, doubled(layer), image) for layer in opened)
        if error > _ROUNDED:
            # Weights that the module computes were computed in float32 while it was traced.
            graph = ModelGraph(module, network.shape)
            opened = [open_layer(graph, name, activation="post") for name in layers]
            error = max(error_of(graph, module, layer, image) for layer in opened)
    except AtlasError as refusal:
        refused = f"{type(refusal).__name__}: {refusal}"
        error = None
    except Exception as fault:  # whatever it is, it is no refusal
        raise AssertionError(f"{network.key}: {type(fault).__name__}: {fault}") from fault
    seconds = round(time.perf_counter() - started, 1)
    return Trial(network.key, network.family, layers, error, difference, refused, seconds)


def error_of(graph: ModelGraph, module: nn.Module, layer: TracedLayer, image: Tensor) -> float:
    """Gives the largest error of the unit that responds most but for a quarter of them; infinity
    where the engine has convolutions that the module never runs."""
    with torch.no_grad():
        response = layer.network.output(image).abs().sum((0, 2, 3))
    unit = int(response.argsort(descending=True)[len(response) // 4])
    found = compare(graph, module, layer, image, unit)
    return float("inf") if found.unseen else found.largest


def noise(shape: tuple[int, int, int]) -> Tensor:
    """One image of noise, (1, channels, height, width)."""
    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(1))


def chosen_layers(module: nn.Module, graph: ModelGraph) -> tuple[str, ...]:
    """Chooses a convolution before the middle of the network and a block behind it."""
    parts = dict(module.named_modules())
    names = [name for name in graph.layers if name in parts]
    convolutions = [name for name in names if isinstance(parts[name], nn.Conv2d)]
    blocks = [
        name
        for name in names
        if not isinstance(parts[name], nn.Conv2d) and next(parts[name].children(), None) is not None
    ]
    chosen = (*_with_units(graph, convolutions, 2), *_with_units(graph, blocks, 3))
    return tuple(dict.fromkeys(chosen or names[len(names) // 2 :][:1]))


def _with_units(graph: ModelGraph, names: Sequence[str], fifths: int) -> tuple[str, ...]:
    """The layer after some fifths of them, or the next whose result is a map of channels rather
    than, say, of heads and tokens; none where there is none."""
    at = len(names) * fifths // 5
    for name in (*names[at:], *names[:at]):
        try:
            graph.network(name, "post")
        except ModelError as error:
            if "so it has no units" in str(error):
                continue
        return (name,)
    return ()
