"""Top crops of channels, held against looking at every convolution's output."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.tasks.crops import channel_crops
from tests.jobs.axis import double_images, open_double
from tests.oracles.convolutions import ConvCall, double, layer_output
from tests.oracles.networks import NAMED, Network
from tests.oracles.receptive import receptive_box

IDS = [0, 2, 4, 5, 7, 9]


def outputs(network: Network, images: Tensor, layer: str) -> dict[str, Tensor]:
    """What each convolution gives: (images, channels, h, w)."""
    found: dict[str, list[Tensor]] = {}

    def run(call: ConvCall) -> Tensor:
        result = call.run(call.weight)
        found.setdefault(call.name, []).append(result[0].clone())
        return result

    for image in images:
        layer_output(double(network.module), image, layer, run)
    return {name: torch.stack(maps) for name, maps in found.items()}


@pytest.mark.parametrize("batch", [1, 4, 6])
@pytest.mark.parametrize("name", ["branched", "residual", "depthwise", "gated", "pooled"])
def test_the_four_largest_of_each_channel(name, batch):
    network = NAMED[name]()
    target = network.targets[-1]
    layer = open_double(network, target)
    images = double_images(network, len(IDS))
    table = channel_crops(layer, IDS, images.split(batch)).to_pylist()
    rows = {(row["convolution"], row["channel"], row["rank"]): row for row in table}
    maps = outputs(network, images, target)
    names = [convolution.name for convolution in layer.index.index.convolutions]
    assert len(table) == sum(4 * maps[name].shape[1] for name in names)
    for (convolution, channel, rank), row in rows.items():
        own = maps[convolution][:, channel].flatten(1)
        index = int(own.amax(1).argsort(descending=True)[rank])
        assert row["image"] == IDS[index]
        assert row["maximum"] == pytest.approx(float(own[index].max()), rel=1e-12)
        position = row["position_y"], row["position_x"]
        assert maps[convolution][(index, channel, *position)] == own[index].max()
        if channel == 0 and rank == 0:
            box = tuple(row[f"box_{side}"] for side in ("top", "left", "bottom", "right"))
            whole = receptive_box(network.module, network.size, convolution, position)
            assert box == whole


class Twice(nn.Module):
    """One convolution, applied before and after a pool."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = nn.functional.max_pool2d(torch.relu(self.conv(x)), 2)
        y: Tensor = self.out(self.conv(x))
        return y


def test_of_a_convolution_that_runs_twice_the_larger_counts_and_each_image_once():
    torch.manual_seed(0)
    module = Twice().eval().requires_grad_(False)
    # So that either call has the larger maximum of some channels.
    module.conv.weight *= 4
    layer = open_layer(ModelGraph(module, (3, 8, 8)), "out")
    images = torch.randn(5, 3, 8, 8)
    calls: list[Tensor] = []
    hook = module.conv.register_forward_hook(lambda _m, _a, output: calls.append(output))
    module(images)
    hook.remove()
    maxima = torch.stack([call.flatten(2).amax(2) for call in calls]).amax(0)
    table = channel_crops(layer, range(5), [images]).to_pylist()
    of_call = set()
    for row in table[:12]:
        at = row["image"], row["channel"], row["position_y"], row["position_x"]
        # Two 3 x 3 windows with a pool between see eight pixels, one sees three.
        second = bool(max(at[2:]) < 4 and calls[1][at].isclose(torch.tensor(row["maximum"])))
        first, last = (
            (lambda n: 2 * n - 3, lambda n: 2 * n + 5)
            if second
            else (lambda n: n - 1, lambda n: n + 2)
        )
        of_call.add(second)
        assert (row["box_top"], row["box_left"]) == tuple(max(0, first(n)) for n in at[2:])
        assert (row["box_bottom"], row["box_right"]) == tuple(min(8, last(n)) for n in at[2:])
    assert of_call == {True, False}
    for channel in range(3):
        rows = [r for r in table if (r["convolution"], r["channel"]) == ("conv", channel)]
        order = maxima[:, channel].argsort(descending=True)[:4]
        assert [row["image"] for row in rows] == order.tolist()
        np.testing.assert_allclose(
            [row["maximum"] for row in rows], maxima[order, channel], rtol=1e-5
        )


def test_what_overflows_is_left_out():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)).eval().requires_grad_(False)
    module[1].weight[1] = torch.inf
    layer = open_layer(ModelGraph(module, (3, 8, 8)), "1")
    table = channel_crops(layer, range(3), [torch.randn(3, 3, 8, 8)]).to_pylist()
    assert [(r["convolution"], r["channel"], r["rank"]) for r in table] == [
        *(("0", channel, rank) for channel in (0, 1) for rank in range(3)),
        *(("1", 0, rank) for rank in range(3)),
    ]


def test_a_network_that_overflows_from_the_start_has_no_crops():
    module = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 1)).eval().requires_grad_(False)
    module[0].weight[:] = torch.inf
    layer = open_layer(ModelGraph(module, (3, 8, 8)), "1")
    assert channel_crops(layer, range(3), [torch.randn(3, 3, 8, 8)]).num_rows == 0
