"""Cross-layer attribution, held against autograd that ends at each convolution, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import BlockScores, score_images
from tests.jobs.axis import double_images, on_axis, open_double
from tests.oracles import scores
from tests.oracles.cla import cla
from tests.oracles.convolutions import Target
from tests.oracles.networks import NAMED

# Of the largest score: both sides compute in float64, and what is stored is float32.
TOLERANCE = 1e-6
NETWORKS = ("pooled", "branched", "residual", "grouped", "depthwise", "gated", "attended")
CASES = [(name, NAMED[name]().targets[-1]) for name in NETWORKS]


def found(
    layer: TracedLayer, images: torch.Tensor, criteria: tuple[str, ...] = ("cla",), **changed
) -> dict[str, BlockScores]:
    options = {"keep": {0: [], 1: []}, "response": "sum_abs", "block": 2, **changed}
    names = [*criteria, CONTRIBUTION]
    return score_images(layer, [0, 1], [images], criteria=names, **options)


@pytest.mark.parametrize(("name", "target"), [*CASES, ("residual", "classify")])
def test_a_kernel_has_its_share_of_what_its_channel_is_worth(name, target):
    network = NAMED[name]()
    layer, images = open_double(network, target), double_images(network, 2)
    both = found(layer, images, keep={0: [], 1: [1]})["cla"]
    wanted = on_axis(layer, 1, cla(network.module, images[1:], Target(target, 1)))[0]
    np.testing.assert_allclose(
        both.single[1][0], wanted, rtol=0, atol=TOLERANCE * np.nanmax(wanted)
    )
    assert np.nanmax(both.mean) > 0


@pytest.mark.parametrize("response", ["max", (2, 1)])
def test_what_the_target_is_worth_is_its_response(response):
    network = NAMED["branched"]()
    target = network.targets[-1]
    layer, images = open_double(network, target), double_images(network, 1)
    own = found(layer, images, response=response)["cla"].mean[1]
    wanted = on_axis(layer, 1, cla(network.module, images, Target(target, 1, response)))[0]
    np.testing.assert_allclose(own, wanted, rtol=0, atol=TOLERANCE * np.nanmax(wanted))


class Chain(nn.Module):
    """ReLUs and max-pools alone between convolutions, one of which is called twice."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 2, 3)
        self.pool = nn.MaxPool2d(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool(torch.relu(self.first(x)))
        x = torch.relu(self.again(torch.relu(self.again(x))))
        return torch.relu(self.last(x))


def test_relus_and_max_pools_pass_on_all_of_it():
    """Every convolution has in all what the unit's response is, and one that is called twice has it
    twice."""
    module = Chain().double().eval().requires_grad_(False)
    layer = open_layer(ModelGraph(module, (3, 16, 16)), "last", activation="post")
    images = torch.randn((1, 3, 16, 16), generator=torch.Generator().manual_seed(1)).double()
    own = found(layer, images)["cla"].mean
    y = module(images)[0].sum((1, 2)).numpy()
    assert (y > 0).all()
    sums = [np.nansum(own[:, piece], axis=1) / y for piece, _, _ in layer.pieces()]
    np.testing.assert_allclose(sums, [[1, 1], [2, 2], [1, 1]], rtol=1e-5)


def test_other_scores_are_what_they_are_without_it():
    network = NAMED["residual"]()
    target = network.targets[-1]
    layer, images = open_double(network, target), double_images(network, 1)
    beside = found(layer, images, ("actgrad", "cla", "snip"))
    for name, oracle in (("actgrad", scores.actgrad), ("snip", scores.snip)):
        plain = on_axis(layer, 1, oracle(network.module, images, Target(target, 1)))[0]
        np.testing.assert_allclose(beside[name].mean[1], plain, atol=TOLERANCE * np.nanmax(plain))
    alone = found(layer, images)["cla"].mean
    np.testing.assert_array_equal(beside["cla"].mean, alone)
    assert all(each.compute_s > 0 for each in beside.values())
