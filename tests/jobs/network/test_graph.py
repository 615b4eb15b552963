"""Tracing a model and cutting it at a layer; what cannot be used is said in one line."""

from __future__ import annotations

import io
import logging
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.graph import ModelGraph
from circuit_atlas.storage_schema.directions import Directions
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


def test_directions_that_cannot_be_used():
    graph = ModelGraph(Aside().eval(), (3, 8, 8))
    for vector in ((1.0, 2.0), (0.0, 0.0, 0.0, 0.0), (1.0, float("nan"), 0.0, 0.0)):
        with pytest.raises(ModelError, match=r"direction 'odd'.*give 4 finite"):
            open_layer(graph, "used", partial(Directions.of_spec, {"odd": vector}))


def test_a_layer_before_any_convolution_has_no_circuit():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 1)).eval()
    with pytest.raises(ModelError, match="no convolution with weights of its own"):
        open_layer(ModelGraph(model, (3, 8, 8)), "0")


def test_batch_statistics_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    with pytest.raises(ModelError, match="has no running statistics"):
        ModelGraph(model, (3, 8, 8)).network("1")


class Mixing(nn.Module):
    """Takes an image's difference to the mean of its batch, and something else before."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 2, 3)
        self.after = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        z: Tensor = self.after(y - y.mean(0, keepdim=True))
        return z


def test_a_layer_that_mixes_the_images_of_a_batch_is_refused():
    graph = ModelGraph(Mixing().eval(), (3, 8, 8))
    with pytest.raises(ModelError, match=r"'after'.*response depends on the others of its batch"):
        graph.network("after")
    assert graph.network("before").layer == "before"


class Unsteady(Mixing):
    """Divides by the spread of the batch, which is NaN for one image."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.before(x) / x.std(0).mean())
        return y


def test_mixing_that_gives_nan_for_one_image_is_refused():
    with pytest.raises(ModelError, match="depends on the others of its batch"):
        ModelGraph(Unsteady().eval(), (3, 8, 8)).network("after")


class Moody(nn.Module):
    """Decides by a value which way to go: no graph says what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        print("on my way")  # noqa: T201
        y: Tensor = self.one(x) if bool(x.sum() > 0) else x
        return y


def test_a_model_that_decides_by_values_cannot_be_traced():
    with pytest.raises(ModelError, match="cannot be traced for images of 3 x 8 x 8"):
        ModelGraph(Moody().eval(), (3, 8, 8))


class Loud(nn.Conv2d):
    """Says something each time it runs."""

    def forward(self, x: Tensor) -> Tensor:
        print("on my way")  # noqa: T201
        return super().forward(x)


def test_a_models_own_words_go_to_stderr(capsys):
    ModelGraph(Loud(3, 2, 1).eval(), (3, 8, 8))
    assert capsys.readouterr() == ("", "on my way\n")


class Misfit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.zeros(3, 3)


class Exits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        del x
        raise SystemExit(0)


@pytest.mark.parametrize("module", [Moody(), Misfit(), Exits()])
def test_torchs_own_account_of_a_failure_is_a_note_and_no_output(module, capsys):
    logged = io.StringIO()
    logger, handler = (
        logging.getLogger("torch._subclasses.fake_tensor"),
        logging.StreamHandler(logged),
    )
    logger.addHandler(handler)
    with pytest.raises(ModelError, match="cannot be traced") as caught:
        ModelGraph(module.eval(), (3, 8, 8))
    logger.removeHandler(handler)
    assert (capsys.readouterr(), logged.getvalue()) == (("", ""), "")
    assert ("def forward" in caught.value.__notes__[0]) == isinstance(module, Moody)


class Twice(nn.Module):
    """Runs one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))
        return y


def test_a_convolution_that_runs_twice_is_one_convolution():
    layer = open_layer(ModelGraph(Twice().eval(), (3, 8, 8)), "last")
    assert [(c.name, c.size) for c in layer.index.index.convolutions] == [
        ("shared", 9),
        ("last", 3),
    ]
    assert len(layer.network.sites[0].steps) == 2


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


def test_an_operation_without_a_gradient_is_refused_with_its_line():
    class Underivable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            self.out = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(torch.special.zeta(self.conv(x).abs() + 2, 1.5))
            return y

    graph = ModelGraph(Underivable().eval().requires_grad_(False), (3, 8, 8))
    message = r"no gradient goes back through 'special_zeta' \(.*test_graph.py:\d+\)"
    with pytest.raises(ModelError, match=message):
        open_layer(graph, "out")


def test_convolutions_of_one_module_are_layers_by_their_own_names():
    graph = _graph("two computed weights")
    names = [site.name for site in graph.network("target").sites]
    assert names == ["stem", "middle.block.conv2d_1", "middle.block.conv2d_2", "target"]
    assert graph.network(names[2]).target.convolution == 1
