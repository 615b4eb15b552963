"""Where a unit's response is taken: at the end of the chain that all readers of it share."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.jobs.network.wiring import wiring
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.force import ForceRun, force_scores
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.storage_schema.directions import Directions

TOLERANCE = 1e-6  # of the largest score, which is stored in float32


class Net(nn.Module):
    """stem -> layer -> what `after` makes of its output, image 3 x 8 x 8, float64."""

    def __init__(self, after: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.layer = nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.norm.running_mean.copy_(torch.randn(4))
        self.norm.running_var.copy_(torch.rand(4) + 0.5)
        self.act = nn.ReLU(inplace=True)
        self.drop = nn.Dropout()
        self.scale = nn.Parameter(torch.rand(4, 1, 1) + 0.5)
        self.point = nn.Identity()
        self.last = nn.Conv2d(4, 4, 3)
        self.after = after

    def forward(self, image: Tensor) -> Tensor:
        return self.after(self, self.layer(functional.relu(self.stem(image))))


def _residual(net: Net, y: Tensor) -> Tensor:
    z = net.norm(y)
    return net.last(net.act(z + z.roll(1, 2)))


def _twice(net: Net, y: Tensor) -> Tensor:
    return net.last(functional.relu(y)) + y[..., 1:-1, 1:-1]


def _gate(net: Net, y: Tensor) -> Tensor:
    return net.last(net.point(y * torch.sigmoid(y)))


def _half_gate(net: Net, y: Tensor) -> Tensor:
    return net.last(torch.sigmoid(y) * y.mean((2, 3), keepdim=True))


def _counted(net: Net, y: Tensor) -> Tensor:
    return net.last(functional.relu(y) * (y > 0).sum())


CHAINS: dict[str, tuple[Callable[[Any, Tensor], Tensor], str]] = {
    "relu": (lambda net, y: net.last(net.act(y)), "relu, act"),
    "norm and relu": (lambda net, y: net.last(net.act(net.norm(y))), "batch norm and relu, act"),
    "scale": (lambda net, y: net.last(net.act(y * net.scale + 1)), "mul and add and relu, act"),
    "dropout": (lambda net, y: net.last(net.drop(net.act(y))), "relu, act"),
    "of the whole": (lambda net, y: net.act(y), "relu, act"),
    "selu": (lambda net, y: net.last(functional.selu(y)), "selu"),
    "gate": (_gate, "sigmoid and mul"),
    "residual sum": (_residual, "batch norm, norm"),
    "two readers": (_twice, ""),
    "pooling": (lambda net, y: net.last(functional.max_pool2d(y, 2)), ""),
    "half a gate": (_half_gate, ""),
    "counted": (_counted, ""),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_chain_that_all_readers_share(name):
    after, words = CHAINS[name]
    graph = ModelGraph(Net(after).double().eval().requires_grad_(False), (3, 8, 8))
    network = graph.network("layer", "post")
    assert network.after == words
    assert bool(network.chain) == bool(words)
    assert graph.network("layer").chain == ()
    assert graph.network("layer", "pre").after == ""


def _opened(name: str, layer: str, activation: Any) -> Any:
    net = Net(CHAINS[name][0]).double().eval().requires_grad_(False)
    vectors = {"d": (0.5, 0.0, -2.0, 1.0), "one": (0.0, -3.0, 0.0, 0.0)}
    directions = partial(Directions.of_spec, vectors)
    return open_layer(ModelGraph(net, (3, 8, 8)), layer, directions, activation=activation)


# The module at the chain's end, whose own output is what the layer passes on.
@pytest.mark.parametrize(
    ("name", "end"), [("relu", "act"), ("norm and relu", "act"), ("residual sum", "norm")]
)
@pytest.mark.parametrize("units", [(0, 3), (1, 4, 5)])
def test_all_numbers_are_those_of_the_module_at_the_end(name, end, units):
    layer, wanted = _opened(name, "layer", "post"), _opened(name, end, "pre")
    assert layer.upstream.index == wanted.upstream.index
    assert layer.index.explained == f"after {CHAINS[name][1]}"
    assert wanted.index.explained == "the module's own output"
    images = torch.randn((3, 3, 8, 8), generator=torch.Generator().manual_seed(1)).double()
    found = {}
    for key, each in (("found", layer), ("wanted", wanted)):
        scores = score_images(
            each,
            units,
            [images],
            keep=dict.fromkeys(units, range(3)),
            criteria=["actgrad", "snip", CONTRIBUTION],
            response="sum_abs",
            block=len(units),
        )
        runs = [ForceRun(unit, (60, 30)) for unit in units]
        found[key] = {name: score.mean for name, score in scores.items()}
        found[key]["single"] = scores["actgrad"].single
        found[key]["force"] = force_scores(each, runs, lambda: [images], response="sum_abs")
        for unit in units:
            mask = np.arange(each.upstream.index.size) % 2 == 0
            masks = (mask & each.reachable(unit))[None]
            found[key][f"maps {unit}"] = circuit_maps(each, unit, masks, images).numpy()
        found[key]["full"] = each.targets(units).maps(each.network.output(images)).numpy()
        found[key]["fields"] = receptive_fields(each.network)
    for name_of, values in found["wanted"].items():
        largest = np.nanmax(np.abs(values)) or 1.0
        np.testing.assert_allclose(
            found["found"][name_of], values, rtol=0, atol=TOLERANCE * largest, err_msg=name_of
        )
    assert wiring(layer.network, layer.upstream) == wiring(wanted.network, wanted.upstream)


def test_what_is_passed_on_can_have_another_circuit():
    """Channel 0 makes the unit fire; channel 1, five times as strong, only keeps it from firing."""
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=False), nn.Conv2d(2, 1, 1, bias=False), nn.ReLU())
    net[0].weight.data = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[..., None, None]
    net[1].weight.data = torch.tensor([[[[1.0]], [[-5.0]]]])
    graph = ModelGraph(net.eval().requires_grad_(False), (3, 4, 4))
    images = torch.zeros((1, 3, 4, 4))
    images[0, 0, :2] = 1.0  # where it fires
    images[0, 1, 2:] = 1.0  # where it is held down
    best = {}
    for activation in ("pre", "post"):
        layer = open_layer(graph, "1", activation=activation)
        scores = score_images(
            layer,
            [0],
            [images],
            keep={0: ()},
            criteria=["actgrad"],
            response="sum_abs",
            block=1,
        )["actgrad"].mean[0]
        best[activation] = set(np.argsort(-scores)[:2].tolist())
        kernels = layer.upstream.index.locate(np.array(sorted(best[activation])), (0,))
        best[activation] = set(zip(kernels[1].tolist(), kernels[2].tolist(), strict=True))
    assert best == {"pre": {(1, 1), (0, 1)}, "post": {(0, 0)}}
