"""Crops: their size, what a network takes, and that they show what the image shows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.crops import crop_size, random_crops
from circuit_atlas.storage_schema.errors import SpecError


def network(module: nn.Module, size: tuple[int, int]):
    graph = ModelGraph(module.eval().requires_grad_(False), (3, *size))
    return graph.network("1")


class Flat(nn.Module):
    """A map that is made of positions in one order, so that no other size will do."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4 * 70 * 90, 4 * 70 * 90)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x.flatten(1)).unflatten(1, (4, 70, 90))


@pytest.mark.parametrize(
    ("size", "pixels", "wanted"),
    [
        ((224, 224), None, (128, 128)),
        ((224, 280), None, (128, 160)),
        ((80, 224), None, (64, 128)),
        ((32, 32), None, (32, 32)),
        ((224, 100), 96, (96, 96)),
        ((224, 90), 96, (96, 90)),
    ],
)
def test_the_size(size, pixels, wanted):
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    assert crop_size(network(convolutions, size), pixels) == wanted


def test_a_crop_larger_than_the_images_is_refused():
    convolutions = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
    with pytest.raises(SpecError, match=r"learned\.crop = 225 .* 224 x 90: give at most 224"):
        crop_size(network(convolutions, (224, 90)), 225)


def test_a_network_of_one_size_gets_that():
    with torch.device("meta"):
        flat = Flat()
    flat = flat.to_empty(device="cpu")
    nn.init.zeros_(flat.linear.weight)
    fixed = nn.Sequential(nn.Conv2d(3, 4, 1), flat)
    assert crop_size(network(fixed, (70, 90)), None) == (70, 90)


def test_crops_are_parts_of_their_image():
    """On a ramp a crop is a ramp: its slope is the scale, its ends lie inside the image."""
    ramp = torch.linspace(0, 1, 225).expand(3, 120, 225)
    generator = torch.Generator().manual_seed(0)
    crops = random_crops([ramp] * 200, (64, 64), generator)
    assert crops.shape == (200, 3, 64, 64)
    assert crops.min() >= 0
    assert crops.max() <= 1
    slope = (crops[:, 0, 32, 48] - crops[:, 0, 32, 16]) / 32 * 224
    assert 60 < (slope < 0).sum() < 140
    # A scale of .7 shows 91 pixels in 64, one of 1.4 shows 46.
    assert slope.abs().max() == pytest.approx(91 / 64, abs=0.03)
    assert slope.abs().min() == pytest.approx(46 / 64, abs=0.03)
    middle = crops[:, 0, 32, 32]
    assert middle.min() < 0.2
    assert middle.max() > 0.8


def test_the_same_seed_draws_the_same():
    images = list(torch.rand(4, 3, 50, 60))
    one, same, other = (
        random_crops(images, (30, 40), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one, other)
