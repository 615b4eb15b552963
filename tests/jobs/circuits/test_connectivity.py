"""Which kernels of a circuit act, held against trying every one of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from circuit_atlas.jobs.circuits.connectivity import Connectivity
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from tests.jobs.axis import off_axis, on_axis, open_double
from tests.oracles.acting import acting
from tests.oracles.convolutions import convolutions
from tests.oracles.networks import NAMED, Network, networks

CASES = [(name, target) for name, make in NAMED.items() for target in make().targets]
FRACTIONS = (0.7, 0.35)


def random_masks(layer: TracedLayer, unit: int, seed: int) -> np.ndarray:
    """Circuits of some shares of the kernels that reach the unit: (circuits, kernels) bool."""
    drawn = np.random.default_rng(seed).random(layer.upstream.index.size)
    return np.stack([layer.reachable(unit) & (drawn < share) for share in FRACTIONS])


def assert_acting(network: Network, target: str, unit: int, vector=None, *, seed: int = 0) -> None:
    directions = None if vector is None else {"mixed": vector}
    layer = open_double(network, target, directions)
    number = unit if vector is None else layer.index.channels
    masks = random_masks(layer, number, seed)
    image = network.images(1)[0]
    like = {
        name: torch.zeros(weight.shape[:2], dtype=torch.bool)
        for name, weight in convolutions(network.module, image).items()
    }
    found = Connectivity(layer).acting(number, masks)
    for mask, acts in zip(masks, found, strict=True):
        kept = off_axis(layer, number, mask, like)
        tried = acting(network.module, image, target, unit if vector is None else vector, kept)
        wanted = on_axis(
            layer, number, {name: each.double().numpy() for name, each in tried.items()}
        )
        np.testing.assert_array_equal(acts, wanted == 1)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_kernels_act_that_read_the_image_and_move_the_unit(name, target):
    assert_acting(NAMED[name](), target, 1)


@settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_random_networks(data):
    network = data.draw(networks(blocks=2))
    target = data.draw(st.sampled_from(network.targets))
    unit = data.draw(st.integers(0, network.channels(target) - 1))
    assert_acting(network, target, unit, seed=data.draw(st.integers(0, 99)))


@pytest.mark.parametrize("name", ["branched", "depthwise"])
def test_a_direction_reads_all_of_its_channels(name):
    network = NAMED[name]()
    assert_acting(network, network.targets[-1], 0, (0.0, 1.0, -2.0, 0.0))


class Chain(nn.Module):
    """Two convolutions with biases, and a shortcut around the second."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 2, 1)
        self.second = nn.Conv2d(2, 2, 1)
        self.last = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        x = self.first(x).relu()
        return self.last(x + self.second(x).relu())


def opened_chain() -> TracedLayer:
    return open_layer(ModelGraph(Chain().eval().requires_grad_(False), (1, 4, 4)), "last")


def test_what_acts_in_a_network_small_enough_to_see():
    # The axis: first (0, 0), (1, 0); second (0, 0), (0, 1), (1, 0), (1, 1); last (0, 0), (0, 1).
    circuits = {
        # Of channel 0, through the shortcut; what second writes of channel 1 carries no image.
        (0, 3, 6): (0, 6),
        # Channel 1 goes to channel 0 of the second convolution, and on to the unit.
        (1, 3, 6): (1, 3, 6),
        # The second convolution writes a channel that nothing reads.
        (0, 4, 6): (0, 6),
        # Nothing leaves the image, or nothing gets to the unit, whatever biases do.
        (2, 3, 6, 7): (),
        (0, 1, 2, 5): (),
    }
    masks = np.zeros((len(circuits), 8), np.bool_)
    for mask, kernels in zip(masks, circuits, strict=True):
        mask[list(kernels)] = True
    found = Connectivity(opened_chain()).acting(0, masks)
    assert [tuple(np.flatnonzero(acts)) for acts in found] == list(circuits.values())


def test_a_layers_ways_are_read_once():
    layer = opened_chain()
    assert Connectivity.of(layer) is Connectivity.of(layer)
    other = replace(layer, index=replace(layer.index, channels=1))
    assert Connectivity.of(other) is not Connectivity.of(layer)


def test_a_convolution_in_a_loop_acts_in_any_of_its_turns():
    class Loop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.step = nn.Conv2d(2, 2, 1)
            self.last = nn.Conv2d(2, 1, 1)

        def forward(self, x):
            for _ in range(2):
                x = self.step(x).relu()
            return self.last(x)

    layer = open_layer(ModelGraph(Loop().eval().requires_grad_(False), (2, 4, 4)), "last")
    # (0, 1) reads the image in the first turn, (1, 0) what that wrote in the second.
    mask = np.array([False, True, True, False, False, True])
    assert Connectivity(layer).acting(0, mask[None]).tolist() == [mask.tolist()]
    # Without the second turn's kernel nothing gets from channel 0 to channel 1.
    without = mask & ~np.array([False, False, True, False, False, False])
    assert not Connectivity(layer).acting(0, without[None]).any()
