"""Pictures made by gradient ascent: of a planted colour and edge, through one path of two."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.spec.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from circuit_atlas.jobs.visualization.ascent import (
    Canvas,
    Normalisation,
    Recipe,
    Visualization,
    make_visualizations,
    read_visualization,
    seed_of,
)
from circuit_atlas.jobs.visualization.objective import (
    Objective,
    measure_in_circuit,
    measure_in_network,
)

SIZE = (32, 40)
CPU = torch.device("cpu")
RECIPE = Recipe(SIZE, 40, 0.1, IMAGENET_MEAN, IMAGENET_STD)
ACROSS = torch.tensor([[-1.0, 0.0, 1.0]] * 3)


class Planted(nn.Module):
    """Unit 0 adds up two paths: edges across (channels 0 and 1, either sign) and edges along
    (channels 2 and 3). Unit 1 is red less green and blue."""

    def __init__(self) -> None:
        super().__init__()
        self.edges = nn.Conv2d(3, 5, 3, padding=1)
        self.sum = nn.Conv2d(5, 2, 1, bias=False)
        with torch.no_grad():
            self.edges.weight.zero_()
            # Grey has to pass the ReLU: from a start that does not, nothing can be climbed.
            self.edges.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0]))
            for channel, kernel in enumerate((ACROSS, -ACROSS, ACROSS.T, -ACROSS.T)):
                self.edges.weight[channel] = kernel
            self.edges.weight[4, :, 1, 1] = torch.tensor([1.0, -1.0, -1.0])
            self.sum.weight.zero_()
            self.sum.weight[0, :4] = 1.0
            self.sum.weight[1, 4] = 1.0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.sum(torch.relu(self.edges(x)))
        return y


@pytest.fixture(scope="module")
def layer() -> TracedLayer:
    model = Planted().eval().requires_grad_(False)
    return open_layer(ModelGraph(model, (3, *SIZE)), "sum")


def of_whole(layer: TracedLayer, units: list[int], signs: list[float]) -> Objective:
    factors = torch.tensor(signs)
    weights = layer.targets(units).directions
    rows = list(range(len(units)))
    return Objective([(rows, measure_in_network(layer.network, weights, factors))], factors)


def make(
    objective: Objective, seeds: list[int], recipe: Recipe = RECIPE
) -> tuple[Visualization, ...]:
    return make_visualizations(objective.gradient, seeds, recipe, device=CPU, transform_seed=0)


def reddest(made: Visualization, sign: int) -> list[float]:
    """Mean colour of the fifth of the pixels that is most red, or least: what the objective is of.
    The others may be anything."""
    pixels = made.pixels.reshape(-1, 3).astype(float)
    order = np.argsort(-sign * (pixels[:, 0] - pixels[:, 1] - pixels[:, 2]))
    return pixels[order[: len(order) // 5]].mean(0).tolist()


def test_a_unit_of_one_colour_gets_a_picture_of_it(layer):
    first, second = make(of_whole(layer, [1, 1], [1.0, 1.0]), [1, 2])
    for made in (first, second):
        r, g, b = reddest(made, 1)
        assert r > max(g, b) + 90
    # The two started from other noise.
    assert (first.pixels != second.pixels).any()


def test_a_negative_picture_is_of_the_opposite():
    model = Planted().eval().requires_grad_(False)
    edges_layer = open_layer(ModelGraph(model, (3, *SIZE)), "edges")
    (made,) = make(of_whole(edges_layer, [4], [-1.0]), [1])
    r, g, b = reddest(made, -1)
    assert r < min(g, b) - 90


def test_a_picture_through_one_path_drives_that_path_and_not_the_other(layer):
    """Where the picture drives its own path most, the other hardly answers."""
    seeds, one = [3], torch.ones(1)
    paths = {"across": (0, 1), "along": (2, 3)}
    for name, channels in paths.items():
        # The axis: edges (5 x 3), then the unit's own row (5).
        mask = np.zeros(layer.upstream.index.size, np.bool_)
        for channel in channels:
            mask[3 * channel : 3 * channel + 3] = mask[15 + channel] = True
        look = measure_in_circuit(layer, 0, pruned_weights(layer, 0, mask, None), one)
        (made,) = make(Objective([([0], look)], one), seeds)
        assert made.contrast > 0.1
        # Each path's own response to it, by the network's own arithmetic.
        seen = read_visualization(made.png, RECIPE, CPU)
        own = torch.relu(Planted().edges(seen)).detach()[0, :, 1:-1, 1:-1]
        maps = {path: own[list(c)].sum(0) for path, c in paths.items()}
        best = maps[name] >= maps[name].quantile(0.8)
        other = next(path for path in paths if path != name)
        assert maps[name][best].mean() > 3 * maps[other][best].mean()


def test_the_same_seeds_give_the_same_pictures_and_others_others(layer):
    objective = of_whole(layer, [0, 0, 1], [1.0, 1.0, 1.0])
    recipe = Recipe(SIZE, 8, 0.1, IMAGENET_MEAN, IMAGENET_STD)
    first = make(objective, [1, 2, 1], recipe)
    again = make(objective, [1, 2, 1], recipe)
    assert [made.png for made in first] == [made.png for made in again]
    assert first[0].png != first[1].png
    assert first[0].png != first[2].png
    # Chances of other pictures beside it do not reach a picture, but for rounding.
    (alone,) = make(of_whole(layer, [0], [1.0]), [2], recipe)
    assert np.abs(alone.pixels.astype(int) - first[1].pixels).max() <= 2


def test_random_numbers_of_others_are_left_alone(layer):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    make(of_whole(layer, [0], [1.0]), [1], Recipe(SIZE, 1, 0.1, IMAGENET_MEAN, IMAGENET_STD))
    assert torch.equal(torch.rand(3), expected)


def test_the_picture_is_stored_as_it_was_judged(layer):
    (made,) = make(of_whole(layer, [0], [1.0]), [1])
    with Image.open(io.BytesIO(made.png)) as image:
        assert image.size == (SIZE[1], SIZE[0])
        pixels = np.array(image)
    assert (pixels == made.pixels).all()
    expected = (pixels / 255 - IMAGENET_MEAN) / IMAGENET_STD
    found = read_visualization(made.png, RECIPE, CPU)[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_every_look_is_shifted_turned_and_of_another_size():
    """Of a picture that stays as it started: what is seen at its middle has been shifted, and to
    both sides of it what a turn and a change of size did shows too."""
    height, width, reach = 128, 160, 22
    recipe = Recipe((height, width), 24, 0.1, IMAGENET_MEAN, IMAGENET_STD)
    looks: list[np.ndarray] = []

    def gradient(pictures: Tensor) -> Tensor:
        looks.append(pictures[0].numpy().copy())
        return torch.zeros_like(pictures)

    make_visualizations(gradient, [1], recipe, device=CPU, transform_seed=0)
    with torch.no_grad():
        start = Normalisation(recipe, CPU)(Canvas([1], recipe, CPU).levels())[0].numpy()
    # As a Fourier series it goes on past its sides.
    wide = np.pad(start, ((0, 0), (reach, reach), (reach, reach)), mode="wrap")
    around = np.lib.stride_tricks.sliding_window_view(wide, (13, 13), (1, 2))

    def displaced(look: np.ndarray, y: int, x: int) -> np.ndarray:
        """How far what is seen there has come, down and to the right."""
        seen = look[:, None, None, y - 6 : y + 7, x - 6 : x + 7]
        near = around[:, y - 6 : y + 2 * reach - 5, x - 6 : x + 2 * reach - 5]
        apart = ((near - seen) ** 2).sum((0, 3, 4))
        return reach - np.array(np.unravel_index(apart.argmin(), apart.shape))

    middle = height // 2, width // 2
    shifts = np.array([displaced(look, *middle) for look in looks])
    across = [displaced(k, middle[0], 120) - displaced(k, middle[0], 40) for k in looks]
    turns, zooms = np.array(across).T / 80
    # Drawn evenly from a sixteenth of the side, a tenth of the size and five degrees either way, to
    # within a pixel: of so many draws some lie far out on either side.
    for found, most, pixel in (
        (shifts[:, 0], height / 16, 1),
        (shifts[:, 1], width / 16, 1),
        (zooms, 0.1, 2 / 80),
        (turns, np.sin(np.radians(5)), 2 / 80),
    ):
        assert found.min() < -most / 2
        assert found.max() > most / 2
        assert np.abs(found).max() <= most + pixel


def test_where_nothing_is_to_be_climbed_the_picture_stays_grey():
    (made,) = make_visualizations(torch.zeros_like, [1], RECIPE, device=CPU, transform_seed=0)
    assert made.finite
    assert made.contrast < 0.03
    assert made.change == 0
    loud = replace(RECIPE, start=1.0)
    (made,) = make_visualizations(torch.zeros_like, [1], loud, device=CPU, transform_seed=0)
    assert made.contrast > 0.1
    assert made.change == 0
    flat = Visualization(np.full((4, 4, 3), 255, np.uint8), finite=True, change=0.5)
    assert flat.contrast == 0.5


def test_nan_is_told_of_the_one_picture_that_it_is_in():
    def gradient(pictures: Tensor) -> Tensor:
        found = torch.ones_like(pictures)
        found[1] = float("nan")
        return found

    first, second = make_visualizations(gradient, [1, 2], RECIPE, device=CPU, transform_seed=0)
    assert first.finite
    assert not second.finite


def test_a_seed_depends_on_every_part():
    assert (
        len({seed_of(0, "a", 1), seed_of(0, "a", 2), seed_of(0, "b", 1), seed_of(1, "a", 1)}) == 4
    )
    assert 0 <= seed_of("x") < 2**63
