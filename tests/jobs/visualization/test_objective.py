"""The objective of feature visualizations, against one written down slowly."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.visualization.objective import (
    BestImages,
    Objective,
    measure_in_circuit,
    measure_in_network,
    peaks,
)
from circuit_atlas.storage_schema.directions import Directions
from tests.oracles.networks import NAMED

DIRECTION = (0.5, 0.0, -1.0, 2.0)


def slow(values: np.ndarray, sign: int) -> float:
    """Mean of the fifth of all values that are largest, or smallest."""
    ordered = sorted(values.astype(float).ravel().tolist(), reverse=sign > 0)
    return float(np.mean(ordered[: max(1, round(len(ordered) / 5))]))


@pytest.fixture(scope="module", params=["branched", "residual", "depthwise"])
def made(request):
    """A network of its kind, the layer `last` with a direction (unit 4), and three pictures."""
    network = NAMED[request.param]()
    module = copy.deepcopy(network.module).requires_grad_(False)
    directions = partial(Directions.of_spec, {"d": DIRECTION})
    layer = open_layer(ModelGraph(module, (3, *network.size)), "last", directions)
    return module, layer, network.images(3)


def outputs(module: torch.nn.Module, pictures: Tensor) -> np.ndarray:
    """The layer's output by the module itself: (pictures, channels, h, w)."""
    found: list[Tensor] = []
    handle = module.get_submodule("last").register_forward_hook(
        lambda _module, _args, output: found.append(output.clone())
    )
    with torch.no_grad():
        module(pictures)
    handle.remove()
    return found[0].numpy()


def test_the_whole_network(made):
    module, layer, pictures = made
    units, factors = [3, 4, 4], torch.tensor([1.0, 1.0, -1.0])
    weights = layer.targets(units).directions
    objective = Objective(
        [([0, 1, 2], measure_in_network(layer.network, weights, factors))], factors
    )
    maps = outputs(module, pictures)
    mixed = np.einsum("c,nchw->nhw", DIRECTION, maps)
    expected = [slow(maps[0, 3], 1), slow(mixed[1], 1), slow(mixed[2], -1)]
    np.testing.assert_allclose(objective.values(pictures), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_circuit_and_its_gradient(made, ablation):
    """Values as of the module with the kernels out of the circuit at zero; the gradient as of
    `Objective.values` at two pictures beside."""
    module, layer, pictures = made
    means = kernel_means(layer, [pictures]) if ablation == "mean" else None
    generator = np.random.default_rng(0)
    mask = layer.reachable(1) & (generator.random(layer.upstream.index.size) < 0.85)
    factors = torch.ones(1)
    measure = measure_in_circuit(layer, 1, pruned_weights(layer, 1, mask, means), factors)
    objective = Objective([([0], measure), ([2], measure)], torch.tensor([1.0, 1.0, -1.0]))
    if ablation == "zero":
        kept = {}
        for piece, convolution, site in layer.pieces():
            weight = site.weight.clone()
            rows = torch.zeros(weight.shape[:2], dtype=torch.bool)
            own = torch.from_numpy(mask[piece].reshape(convolution.rows, -1))
            if convolution.one_row:
                rows[1] = own[0]
            else:
                rows[:] = own
            kept[site.parameter] = weight * rows[:, :, None, None]
        before = {name: parameter.clone() for name, parameter in module.named_parameters()}
        module.load_state_dict(kept, strict=False)
        expected = [slow(outputs(module, pictures[[n]])[0, 1], 1) for n in (0, 2)]
        module.load_state_dict(before, strict=False)
        np.testing.assert_allclose(objective.values(pictures)[[0, 2]], expected, rtol=1e-4)
    gradient = objective.gradient(pictures)
    assert (gradient[[0, 2]] != 0).any()
    direction = torch.from_numpy(generator.standard_normal(pictures.shape).astype(np.float32))
    step = 1e-3 * direction
    up, down = objective.values(pictures + step), objective.values(pictures - step)
    slope = (up - down) / 2e-3 * torch.tensor([1.0, 0.0, -1.0])
    along = (gradient * direction).flatten(1).sum(1)
    for row in (0, 2):
        # A ReLU or a rank may switch between the two: a hundredth of the slope.
        assert float(slope[row]) == pytest.approx(float(along[row]), rel=0.05, abs=1e-3)


def test_a_bias_is_added_before_the_mean(made):
    _, layer, pictures = made
    weights, factors = layer.targets([4, 4]).directions, torch.tensor([1.0, -1.0])
    plain = measure_in_network(layer.network, weights, factors)(pictures[:2])
    shifted = measure_in_network(layer.network, weights, factors, torch.tensor([2.0, -3.0]))
    torch.testing.assert_close(shifted(pictures[:2]) - plain, torch.tensor([2.0, -3.0]))


def test_peaks_of_a_small_map_are_at_least_one_position():
    maps = torch.tensor([[[3.0, 1.0]], [[3.0, 1.0]]])
    assert peaks(maps, torch.tensor([1.0, -1.0])).tolist() == [3.0, 1.0]


def test_a_channel_that_overflows_spoils_no_unit_that_does_not_read_it():
    network = NAMED["sequential"]()
    module = copy.deepcopy(network.module).requires_grad_(False)
    module.get_submodule("last").bias[0] = float("inf")
    layer = open_layer(ModelGraph(module, (3, *network.size)), "last")
    factors = torch.ones(2)
    measure = measure_in_network(layer.network, layer.targets([0, 1]).directions, factors)
    objective = Objective([([0, 1], measure)], factors)
    values = objective.values(network.images(2))
    assert not values[0].isfinite()
    assert values[1].isfinite()
    assert objective.gradient(network.images(2))[1].isfinite().all()


def test_the_best_image_of_each_objective():
    best = BestImages(np.array([1.0, -1.0, 1.0, 1.0]))
    best.see(np.array([[1.0, 1.0, np.nan, np.nan], [2.0, 2.0, np.inf, 5.0]]), [10, 11])
    best.see(np.array([[0.0, 0.5, np.nan, 4.0]]), [12])
    assert best.values.tolist() == [2.0, 0.5, -np.inf, 5.0]
    assert best.images.tolist() == [11, 12, -1, 11]


def test_a_unit_that_is_silent_is_led_to_where_it_begins():
    """Behind a ReLU that gives zero everywhere there is no gradient, and yet there is a way up."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU()).eval()
    torch.nn.init.constant_(model[0].bias, -2.0)
    graph = ModelGraph(model.requires_grad_(False), (3, 8, 8))
    layer = open_layer(graph, "0", activation="post")
    factors = torch.tensor([1.0])
    mask = np.ones((1, layer.upstream.index.size), bool)[0]
    replaced = pruned_weights(layer, 1, mask & layer.reachable(1), None)
    weights = torch.tensor([[0.0, 1.0]])
    for measure in (
        measure_in_network(layer.network, weights, factors),
        measure_in_circuit(layer, 1, replaced, factors),
    ):
        objective = Objective([([0], measure)], factors)
        image = torch.zeros((1, 3, 8, 8))
        assert float(objective.values(image)) == 0
        for _ in range(200):
            image = image + 0.3 * torch.nn.functional.normalize(
                objective.gradient(image.clone()).flatten(), dim=0
            ).view_as(image)
        # What is told is what the unit passes on, without the lead.
        with torch.no_grad():
            (passed_on,) = model(image)[0, 1:]
        assert float(objective.values(image)) == pytest.approx(slow(passed_on.numpy(), 1), rel=1e-5)
        assert float(objective.values(image)) > 0.1
