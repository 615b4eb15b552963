"""What the brute-force oracles of wiring find where the answer is known."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch import nn

from tests.oracles import networks, reference
from tests.oracles.reach import reach
from tests.oracles.receptive import receptive_box
from tests.oracles.scores import kernels


def test_in_a_plain_network_the_target_gives_one_row_and_the_rest_everything() -> None:
    net = reference.plain_net()
    reached = reach(net, reference.images()[0], "conv4", 7)

    assert kernels(reached) == reference.arrays()["kernels/7"]
    assert reached["conv4"].sum(1).tolist() == [16 * (row == 7) for row in range(10)]
    for name in ("conv1", "conv2", "conv3"):
        assert reached[name].all()


def test_a_branch_aside_and_what_comes_later_reach_nothing() -> None:
    network = networks.NAMED["branched"]()
    reached = reach(network.module, network.images(1)[0], "body.1.three", 0)

    assert not reached["aside"].any()
    assert not reached["last"].any()
    assert not reached["body.1.one"].any()
    assert not reached["body.1.pooled"].any()
    assert not reached["body.2.squeeze"].any()
    assert reached["body.1.squeeze"].all()
    assert reached["body.0.steps.0"].all()
    assert reached["body.1.three"].sum() == 2


def test_groups_and_depthwise_rows_cut_channels_off() -> None:
    grouped = networks.NAMED["grouped"]()
    reached = reach(grouped.module, grouped.images(1)[0], "body.2.steps.0", 4)
    # Unit 4 of 6 lies in the second group, which reads channels 3 to 5 of the layer below.
    assert reached["body.1.steps.0"].any(1).tolist() == [False] * 3 + [True] * 3

    depthwise = networks.NAMED["depthwise"]()
    reached = reach(depthwise.module, depthwise.images(1)[0], "body.1.steps.0", 2)
    assert reached["body.1.steps.0"].flatten().tolist() == [False, False, True, False]
    assert reached["body.0.steps.0"].any(1).tolist() == [False, False, True, False]


def test_a_gate_brings_every_channel_in() -> None:
    network = networks.NAMED["gated"]()
    reached = reach(network.module, network.images(1)[0], "body.1", 1)
    assert reached["body.1.conv"].all()
    assert reached["body.1.expand"].sum(1).tolist() == [0, 2, 0, 0]


def test_a_direction_reaches_what_its_channels_reach() -> None:
    network = networks.NAMED["sequential"]()
    reached = reach(network.module, network.images(1)[0], "last", (0.0, 1.0, -2.0, 0.0))
    assert reached["last"].any(1).tolist() == [False, True, True, False]


def test_dead_units_and_zero_weights_still_reach() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net.get_parameter("0.bias").fill_(-1e6)
        net.get_parameter("2.weight").zero_()
    assert reach(net, torch.zeros(3, 6, 6), "2", 0)["0"].all()


@given(networks.networks(blocks=2))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_random_networks_run_and_hold_together(network: networks.Network) -> None:
    """Each target's own row reaches it, whole; no later convolution does."""
    layer = network.targets[len(network.targets) // 2]
    unit = network.channels(layer) - 1
    reached = reach(network.module, network.images(1)[0], layer, unit)
    assert reached[layer][unit].all()
    assert reached[layer].sum() == reached[layer].shape[1]
    assert not reached["aside"].any()
    assert layer == "last" or not reached["last"].any()


@pytest.mark.parametrize(
    ("layer", "position", "box"),
    [
        # Position p of conv1 reads pixels 2p - 2 to 2p + 2.
        ("conv1", (2, 3), (2, 4, 7, 9)),
        # Position 0 of the pool reads conv1's 0 to 2: pixels -2 to 6.
        ("pool", (0, 0), (0, 0, 7, 7)),
        # conv2's 2 reads the pool's 1 to 3, these conv1's 2 to 8, these pixels 2 to 18.
        ("conv2", (2, 2), (2, 2, 19, 19)),
    ],
)
def test_receptive_boxes_worked_by_hand(
    layer: str, position: tuple[int, int], box: tuple[int, int, int, int]
) -> None:
    assert receptive_box(reference.plain_net(), (20, 20), layer, position) == box


def test_a_gate_sees_the_whole_picture_and_a_channel_its_own_branch() -> None:
    gated = networks.NAMED["gated"]()
    assert receptive_box(gated.module, gated.size, "body.1", (0, 0)) == (0, 0, *gated.size)

    branched = networks.build(["plain", "branched"])
    box = (1, 1, 6, 6)
    boxes = {
        channel: receptive_box(branched.module, branched.size, "body.1", (3, 3), channel=channel)
        for channel in (0, 2, 4)
    }
    assert boxes == {0: (2, 2, 5, 5), 2: box, 4: box}
