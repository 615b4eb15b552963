"""Which channels feed which, held against changing each of them and looking."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.wiring import wiring
from circuit_atlas.storage_schema.wiring import IMAGE, Stretch
from tests.jobs.axis import open_double
from tests.oracles.networks import NAMED, Network, networks
from tests.oracles.wiring import Fed, fed


def pairs(layer: TracedLayer) -> tuple[Fed, Fed]:
    """Pairs of channels of the wiring, those of its mixed stretches apart."""
    found = wiring(layer.network, layer.upstream)
    assert found.outside(layer.index) is None
    convolutions = layer.index.index.convolutions
    names = {IMAGE: "", **{n: c.name for n, c in enumerate(convolutions)}}
    width = {IMAGE: 3, **{n: c.out_channels for n, c in enumerate(convolutions)}}
    single: Fed = set()
    mixed: Fed = set()
    for s in found.stretches:
        into = names.get(s.into, "") if s.into < len(convolutions) else ""
        for n in range(s.channels):
            if s.joined == "mixed":
                every = range(s.source_start, width[s.source])
                mixed |= {(into, s.start + n, names[s.source], channel) for channel in every}
            else:
                single.add((into, s.start + n, names[s.source], s.source_start + n))
    return single, mixed


def assert_wiring(network: Network, layer: TracedLayer) -> None:
    names = {convolution.name for convolution in layer.index.index.convolutions} | {""}
    wanted = {
        pair
        for pair in fed(network.module, network.images(1)[0], layer.index.layer)
        if pair[0] in names and pair[2] in names
    }
    single, mixed = pairs(layer)
    assert single | mixed >= wanted
    assert single <= wanted
    if "attended" not in network.kinds and layer.index.layer != "classify":
        assert not mixed
        assert single == wanted


@pytest.mark.parametrize("name", NAMED)
def test_every_kind_of_network(name):
    network = NAMED[name]()
    for target in {network.targets[-1], network.other_targets[-1], "classify"}:
        assert_wiring(network, open_double(network, target))


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_networks(data):
    network = data.draw(networks(blocks=2))
    target = data.draw(st.sampled_from(network.targets + network.other_targets))
    assert_wiring(network, open_double(network, target))


def of_last(module: nn.Module) -> tuple[Stretch, ...]:
    """What feeds the output of a module's last part, `out`."""
    layer = open_layer(ModelGraph(module.eval().requires_grad_(False), (3, 8, 8)), "out")
    return wiring(layer.network, layer.upstream).of(len(layer.index.index.convolutions))


class Joint(nn.Module):
    """Two convolutions of four channels, joined by `join`."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3, padding=1)
        self.b = nn.Conv2d(3, 4, 3, padding=1)
        self.out = nn.ReLU()

    def join(self, a: Tensor, b: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.join(torch.relu(self.a(x)), self.b(x)))
        return y


def joint(join: object) -> nn.Module:
    module = Joint()
    module.join = join
    return module


TABLE = torch.arange(128.0).reshape(1, 2, 8, 8)
JOINTS = {
    "sum": (lambda a, b: a + b, [(0, 4, 0, 0, "sum"), (0, 4, 1, 0, "sum")]),
    "product": (lambda a, b: a * b, [(0, 4, 0, 0, "product"), (0, 4, 1, 0, "product")]),
    "concatenation": (
        lambda a, b: torch.cat([b, a], 1),
        [(0, 4, 1, 0, "alone"), (4, 4, 0, 0, "alone")],
    ),
    "the first joint counts": (
        lambda a, b: (a + 1) * b + functional.avg_pool2d(a, 3, 1, 1),
        [(0, 4, 0, 0, "product"), (0, 4, 1, 0, "product")],
    ),
    "a sum of what one source gives is that source alone": (
        lambda a, b: a * torch.sigmoid(a) + 0 * b.shape[1],
        [(0, 4, 0, 0, "alone")],
    ),
    "a part": (
        lambda a, b: torch.cat([a[:, 1:3], b[:, :1], a[:, :1]], 1),
        [(0, 2, 0, 1, "alone"), (2, 1, 1, 0, "alone"), (3, 1, 0, 0, "alone")],
    ),
    "one channel for all": (
        lambda a, b: a[:, :2] * b[:, 3:],
        [
            (0, 2, 0, 0, "product"),
            (0, 1, 1, 3, "product"),
            (1, 1, 1, 3, "product"),
        ],
    ),
    "a mean over channels": (
        lambda a, b: torch.cat([a.mean(1, keepdim=True), b], 1),
        [(0, 1, 0, 0, "mixed"), (1, 4, 1, 0, "alone")],
    ),
    "means over some of the channels, each from its own first on": (
        lambda a, b: torch.cat(
            [x.mean(1, keepdim=True) for x in (a[:, 2:], a[:, 1:3], b)] + [b[:, 1:2]], 1
        ),
        [
            (0, 1, 0, 2, "mixed"),
            (1, 1, 0, 1, "mixed"),
            (2, 1, 1, 0, "mixed"),
            (3, 1, 1, 1, "alone"),
        ],
    ),
    "a mean over channels of two sources": (
        lambda a, b: torch.cat([b[:, :1], torch.cat([a[:, 3:], b[:, 1:]], 1).mean(1, True)], 1),
        [(0, 1, 1, 0, "alone"), (1, 1, 0, 3, "mixed"), (1, 1, 1, 1, "mixed")],
    ),
    "channels made of the same others, side by side": (
        lambda a, b: torch.cat([b, a[:, 1:].softmax(1)], 1),
        [(0, 4, 1, 0, "alone"), (4, 3, 0, 1, "mixed")],
    ),
    "a pixel shuffle": (
        lambda a, b: torch.cat([functional.pixel_shuffle(a, 2)[..., ::2, ::2], b], 1),
        [*((0, 1, 0, n, "sum") for n in range(4)), (1, 4, 1, 0, "alone")],
    ),
    "constants beside": (
        lambda a, b: torch.cat([TABLE.expand(a.shape[0], -1, -1, -1), a, b], 1),
        [(2, 4, 0, 0, "alone"), (6, 4, 1, 0, "alone")],
    ),
}


@pytest.mark.parametrize("name", JOINTS)
def test_joints(name):
    join, wanted = JOINTS[name]
    found = [
        (s.start, s.channels, s.source, s.source_start, s.joined) for s in of_last(joint(join))
    ]
    assert sorted(found) == sorted(wanted)


@pytest.mark.parametrize("first", [0, 2])
@pytest.mark.parametrize("count", [64, 65])
def test_more_than_64_sources_of_one_channel_count_as_mixed(count, first):
    class Folded(nn.Module):
        """All channels of a convolution, from one on, one below the other in a single channel."""

        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, first + count, 1)
            self.out = nn.Conv2d(1, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)[:, first:]
            y: Tensor = self.out(x.reshape(x.shape[0], 1, -1, 8))
            return y

    many = (Stretch(1, 0, 1, 0, first, "mixed"),)
    few = tuple(Stretch(1, 0, 1, 0, n, "sum") for n in range(first, first + count))
    layer = open_layer(ModelGraph(Folded().eval().requires_grad_(False), (3, 8, 8)), "out")
    found = wiring(layer.network, layer.upstream).of(1)
    assert found == (many if count > 64 else few)


def test_a_residual_stream_is_fed_by_every_block():
    network = NAMED["preactivated"]()
    layer = open_double(network, "body.2")
    names = [c.name for c in layer.index.index.convolutions]
    into_conv = wiring(layer.network, layer.upstream).of(names.index("body.2.enter"))
    assert {names[s.source]: s.joined for s in into_conv} == {
        "body.1.enter": "sum",
        "body.1.conv": "sum",
    }


def test_a_value_that_gates_itself_does_not_double_its_sources():
    class Stream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(3, 4, 1)
            self.out = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            x = self.first(x)
            for _ in range(40):
                x = x * torch.sigmoid(x) + x
            y: Tensor = self.out(x)
            return y

    assert of_last(Stream()) == (Stretch(1, 0, 4, 0, 0, "alone"),)


def test_a_convolution_that_runs_twice_is_fed_by_what_each_run_meets():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.out = nn.ReLU()

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(self.conv(torch.tanh(self.conv(x))))
            return y

    layer = open_layer(ModelGraph(Twice().eval().requires_grad_(False), (3, 8, 8)), "out")
    assert wiring(layer.network, layer.upstream).of(0) == (
        Stretch(0, 0, 3, IMAGE, 0, "sum"),
        Stretch(0, 0, 3, 0, 0, "sum"),
    )
