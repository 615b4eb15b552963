"""Networks that are cut at a layer; a name that stands for no layer is refused in one line."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError
from tests.oracles.cases import CASES, SIZE
from tests.oracles.convolutions import double, layer_output
from tests.oracles.networks import NAMED


@pytest.mark.parametrize("name", NAMED)
def test_a_layer_gives_what_the_model_gives(name):
    network = NAMED[name]()
    module = double(network.module)
    graph = ModelGraph(module, (3, *network.size))
    images = network.images(3).double()
    for layer in network.targets + network.other_targets:
        cut = graph.network(layer)
        found = cut.forward(images)[cut.target.name]
        wanted = torch.stack(
            [
                layer_output(module, image, layer, lambda call: call.run(call.weight))
                for image in images
            ]
        )
        torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


class Aside(nn.Module):
    """Holds a layer that the forward pass never runs, and class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3)
        self.idle = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.used(x).mean((2, 3)))
        return y


def test_layers_that_cannot_be_used():
    graph = ModelGraph(Aside().eval(), (3, 8, 8))
    assert graph.layers == ("used", "head")
    with pytest.raises(
        ModelError, match=r"layer 'uzed' is not in the model: did you mean 'used'\?"
    ):
        graph.network("uzed")
    with pytest.raises(ModelError, match=r"'idle'.*computes nothing in it; choose one of"):
        graph.network("idle")


def _graph(name: str) -> ModelGraph:
    return ModelGraph(CASES[name].build().requires_grad_(False), (3, *SIZE))


def test_calls_and_keys_that_are_not_there_are_refused_with_those_that_are():
    twice = _graph("twice in series")
    with pytest.raises(
        ModelError, match=r"is called 2 times.*write middle.conv@0 to middle.conv@1"
    ):
        twice.network("middle.conv@2")
    assert twice.network("middle.conv").base == twice.network("middle.conv@1").base
    assert twice.network("middle.conv").base != twice.network("middle.conv@0").base
    several = _graph("a named one of several")
    with pytest.raises(
        ModelError,
        match=r"returns no 'huge'; choose from 'middle.block:mean', 'middle.block:fine' and 'mid",
    ):
        several.network("middle.block:huge")
    assert several.network("middle.block").base == several.network("middle.block:fine").base


def test_what_gives_folded_images_is_no_layer():
    graph = _graph("channels folded into the batch")
    assert {"stem", "middle", "target"} <= set(graph.layers)
    assert "middle.conv" not in graph.layers
    with pytest.raises(ModelError, match="folded into the batch where it runs"):
        graph.network("middle.conv")


def test_convolutions_of_one_module_are_layers_by_their_own_names():
    graph = _graph("two computed weights")
    names = [site.name for site in graph.network("target").sites]
    assert names == ["stem", "middle.block.conv2d_1", "middle.block.conv2d_2", "target"]
    assert graph.network(names[2]).target.convolution == 1
