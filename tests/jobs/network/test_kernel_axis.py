"""Which kernels reach a unit, held against changing each kernel and looking."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network import reads
from circuit_atlas.jobs.network.model_graph import ModelGraph
from tests.jobs.axis import open_double
from tests.oracles.networks import NAMED, Network, build, networks
from tests.oracles.reach import reach


def assert_reach(network: Network, layer: TracedLayer, unit: int) -> None:
    """Exactly the kernels that can change the unit are on its axis and marked reachable."""
    found = set()
    positions = np.flatnonzero(layer.reachable(unit))
    ordinal, out, _ = layer.upstream.index.locate(positions, layer.upstream.rows[unit])
    index = layer.upstream.index
    for n, position in enumerate(positions):
        convolution = index.convolutions[ordinal[n]]
        within = (position - index.offsets[ordinal[n]]) % convolution.in_channels
        found.add((convolution.name, int(out[n]), int(within)))
    wanted = {
        (name, row, column)
        for name, mask in reach(
            network.module, network.images(1)[0], layer.index.layer, unit
        ).items()
        for row, column in mask.nonzero().tolist()
    }
    assert found == wanted


@pytest.mark.parametrize("name", NAMED)
def test_every_kind_of_network(name):
    network = NAMED[name]()
    for target in {network.targets[-1], network.other_targets[-1], "classify"}:
        layer = open_double(network, target)
        assert_reach(network, layer, layer.index.channels - 1)


@settings(max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_networks(data):
    network = data.draw(networks(blocks=1))
    target = data.draw(st.sampled_from(network.targets + network.other_targets))
    layer = open_double(network, target)
    assert_reach(network, layer, data.draw(st.integers(0, layer.index.channels - 1)))


def test_what_is_no_number_whatever_is_tried_may_read_everything(monkeypatch):
    """As where what stands between two maps overflows for values that are not the network's."""

    def overflows(self, values, count, real=reads._Trial._run):
        return torch.full_like(real(self, values, count), torch.nan)

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.Conv2d(8, 2, 3, groups=2))
    graph = ModelGraph(net.eval().requires_grad_(False), (3, 8, 8))
    assert int(open_layer(graph, "2").reachable(0).sum()) == 3 * 4 + 4
    monkeypatch.setattr(reads._Trial, "_run", overflows)
    assert int(open_layer(graph, "2").reachable(0).sum()) == 3 * 8 + 4


def test_a_branch_beside_the_target_counts_nothing():
    network = build(["plain", "branched", "plain"])
    layer = open_double(network, "body.1.three")
    names = [c.name for c in layer.index.index.convolutions]
    assert names == ["body.0.steps.0", "body.1.squeeze", "body.1.three"]
    assert [c.one_row for c in layer.index.index.convolutions] == [False, False, True]


def test_only_the_unit_s_own_row_of_the_target_is_on_the_axis():
    network = NAMED["depthwise"]()
    layer = open_double(network, "body.2.steps.0")
    by_name = {c.name: c for c in layer.index.index.convolutions}
    assert by_name["body.2.steps.0"].one_row
    assert by_name["body.1.steps.3"].one_row, "the pointwise convolution before a depthwise one"
    assert [unit.rows for unit in layer.index.units] == [(n, n) for n in range(4)]
