"""Layers that give no map with its channels first: vectors, channels last, and sequences."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.storage_schema.errors import ModelError

SIDE = 12


class Channels(nn.Module):
    """Moves the channels first or last."""

    def __init__(self, *axes: int) -> None:
        super().__init__()
        self.axes = axes

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(self.axes)


class Tokens(nn.Module):
    """Positions as a sequence, (batch, positions, channels), through attention."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        y, _ = self.attention(tokens, tokens, tokens, need_weights=False)
        return y + tokens


class Windows(nn.Module):
    """Swin's windows of 2 x 2, with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        n, height, width, channels = x.shape
        shifted = torch.roll(x, (-1, -1), (1, 2))
        windows = shifted.view(n, height // 2, 2, width // 2, 2, channels)
        windows = windows.permute(0, 1, 3, 5, 2, 4).reshape(-1, channels, 4)
        mixed = self.mix(windows) @ windows.transpose(1, 2) @ windows
        mixed = mixed.view(n, height // 2, width // 2, channels, 2, 2).permute(0, 1, 4, 2, 5, 3)
        return torch.roll(mixed.reshape(n, height, width, channels), (1, 1), (1, 2)) + x


def made(**modules: nn.Module) -> ModelGraph:
    """Modules one after another, from an image of 12 x 12 on."""
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, module in modules.items():
        model.add_module(name, module)
    return ModelGraph(model.double().eval(), (3, SIDE, SIDE))


def conv() -> nn.Module:
    return nn.Conv2d(3, 8, 3, padding=1)


@pytest.mark.parametrize(
    "modules",
    [
        {"pool": nn.AdaptiveAvgPool2d(1), "target": nn.Flatten()},
        {"target": nn.Flatten()},
        {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "target": nn.Linear(8, 5)},
        {"flat": nn.Flatten(), "target": nn.Sequential(nn.Linear(1152, 5), nn.Softmax(1))},
    ],
)
def test_a_vector_is_a_map_of_one_position(modules):
    graph = made(conv=conv(), **modules)
    layer = open_layer(graph, "target")
    images = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64)
    wanted = layer.network.by_name[layer.network.target.inputs[0]]
    assert (layer.index.height, layer.index.width) == (1, 1)
    values = layer.network.forward(images)
    assert torch.equal(values[layer.network.target.name][..., 0, 0], values[wanted.name])


@pytest.mark.parametrize(
    ("modules", "channels_last"),
    [
        ({"target": Channels(0, 2, 3, 1)}, True),
        ({"last": Channels(0, 2, 3, 1), "target": nn.LayerNorm(8)}, True),
        ({"last": Channels(0, 2, 3, 1), "target": nn.Linear(8, 12)}, True),
        ({"last": Channels(0, 2, 3, 1), "target": nn.Sequential(nn.Linear(8, 4), nn.GELU())}, True),
        ({"last": Channels(0, 2, 3, 1), "target": Windows()}, True),
        ({"last": Channels(0, 2, 3, 1), "target": Channels(0, 3, 1, 2)}, False),
        ({"target": nn.PixelShuffle(2)}, False),
        ({"target": nn.Upsample(scale_factor=2)}, False),
        ({"target": nn.GroupNorm(2, 8)}, False),
        ({"target": nn.LayerNorm([8, SIDE, SIDE])}, False),
    ],
)
def test_rows_are_never_taken_for_channels(modules, channels_last):
    """The module's own output, with its channels first."""
    graph = made(conv=conv(), **modules)
    network = open_layer(graph, "target").network
    images = torch.randn(2, 3, SIDE, SIDE, dtype=torch.float64)
    found = network.forward(images)
    moved = network.target.name.endswith("_as_map")
    assert moved == channels_last
    if moved:
        own = found[network.target.inputs[0]]
        assert torch.equal(found[network.target.name], own.permute(0, 3, 1, 2))


@pytest.mark.parametrize(
    "modules",
    [
        {
            "flat": nn.Flatten(),
            "target": nn.Linear(1152, 5),
            "end": nn.ReLU(),
            "fc": nn.Linear(5, 2),
        },
        {
            "flat": nn.Flatten(),
            "target": nn.Linear(1152, 5),
            "end": nn.Sequential(nn.BatchNorm1d(5), nn.SiLU()),
        },
        {
            "last": Channels(0, 2, 3, 1),
            "target": nn.Linear(8, 5),
            "end": nn.GELU(),
            "fc": nn.Linear(5, 8),
        },
    ],
)
def test_what_is_passed_on_is_taken_at_the_end_of_the_chain(modules):
    """As from the module at its end, in maps and in scores."""
    graph = made(conv=conv(), **modules)
    passed_on = open_layer(graph, "target", activation="post")
    at_end = open_layer(graph, "end")
    assert passed_on.network.chain
    assert passed_on.index.index == at_end.index.index
    images = torch.randn(3, 3, SIDE, SIDE, dtype=torch.float64)
    outputs = [
        layer.network.forward(images)[layer.network.target.name] for layer in (passed_on, at_end)
    ]
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    units = range(passed_on.index.channels)
    scores = [
        score_images(
            layer,
            units,
            [images],
            keep={unit: [0] for unit in units},
            criteria=["actgrad", "snip"],
            response="sum_abs",
            block=5,
        )
        for layer in (passed_on, at_end)
    ]
    for criterion in ("actgrad", "snip"):
        found, wanted = (of_layer[criterion].mean for of_layer in scores)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6 * np.nanmax(wanted))
        assert np.nanmax(wanted) > 0
    mask = passed_on.reachable(1) & (np.arange(passed_on.upstream.index.size) % 3 > 0)
    maps = [circuit_maps(layer, 1, mask[None], images) for layer in (passed_on, at_end)]
    torch.testing.assert_close(*maps, rtol=1e-12, atol=1e-12)


def test_a_unit_that_its_relu_keeps_silent_is_reached_all_the_same():
    linear = nn.Linear(8, 5)
    assert linear.bias is not None
    nn.init.constant_(linear.bias, -1e6)
    modules = {"pool": nn.AdaptiveAvgPool2d(1), "flat": nn.Flatten(), "fc": linear}
    layer = open_layer(made(conv=conv(), **modules, target=nn.ReLU()), "target")
    assert all(layer.reachable(unit).all() for unit in range(5))
    assert layer.upstream.index.size == 8 * 3


@pytest.mark.parametrize("target", ["tokens", "norm"])
def test_a_sequence_has_no_units(target):
    graph = made(conv=conv(), tokens=Tokens(), norm=nn.LayerNorm(8), head=nn.Flatten())
    with pytest.raises(ModelError, match=r"gives a result of 144 x 8 numbers.*'conv' or 'head'"):
        graph.network(target)
