"""Learned rankings: planted circuits, what units share, and the same again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.compact_circuit import CompactCircuit
from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores import learner
from circuit_atlas.jobs.scores.learned import Training, learned_scores, stages
from circuit_atlas.jobs.scores.over_images import random_scores
from tests.jobs.axis import on_axis, open_double
from tests.oracles.convolutions import convolutions
from tests.oracles.networks import NAMED, planted

FRACTIONS = (1.0, 0.5, 0.2, 0.05)
FEW = Training(steps=20, crop=None, batch=4, rate=0.01, seed=0)


def learn(
    layer, images, units, *, starts=None, fractions=FRACTIONS, training=FEW, means=None, **changed
):
    starts = starts or {unit: random_scores(layer, unit, seed=1) for unit in units}
    options = {"response": "sum_abs", **changed}
    return learned_scores(
        layer,
        starts,
        lambda indices: images[list(indices)],
        len(images),
        fractions=fractions,
        training=training,
        means=means,
        **options,
    )


def kept_of(layer, images, unit, scores, fractions, means=None):
    """Pearson r of the circuits of a ranking with the whole network."""
    masks = nested_masks(scores, fractions)
    maps = circuit_maps(layer, unit, masks, images, means=means).flatten(1)
    whole = circuit_maps(layer, unit, layer.reachable(unit)[None], images)[0].flatten()
    pairs = [np.corrcoef(each, whole)[0, 1] if np.ptp(each) else 0.0 for each in maps.numpy()]
    return np.array(pairs)


def test_the_way_down():
    """No stage keeps less than a third of the one above, and small stages take fewer steps."""
    found = stages((0.5, 1.0, 0.3, 0.01, 0.009), 100)
    fractions = [round(stage.fraction, 4) for stage in found]
    assert fractions == [0.5, 0.3, 0.1282, 0.0548, 0.0234, 0.01, 0.009]
    assert [stage.steps for stage in found] == [100, 100, 100, 100, 100, 100, 26]


def test_the_rate_falls_within_a_stage_and_grows_as_less_is_kept():
    (half, tenth) = (stage for stage in stages((0.5, 0.1), 100) if stage.fraction in (0.5, 0.1))
    assert half.rate(FEW, 0) == FEW.rate
    assert half.rate(FEW, 99) == pytest.approx(0.03 * FEW.rate, rel=0.02)
    assert tenth.rate(FEW, 0) == 4 * FEW.rate


def planted_truth():
    """The planted network's layer, its images, and which kernels of the axis are the circuit."""
    plant = planted()
    layer = open_double(plant.network, plant.layer)
    like = convolutions(plant.network.module.double(), plant.network.images(1).double()[0])
    wanted = {name: np.zeros(weight.shape[:2]) for name, weight in like.items()}
    for name, out, column in plant.kernels:
        wanted[name][out, column] = 1
    truth = on_axis(layer, plant.unit, wanted) == 1
    return layer, plant.unit, plant.network.images(8).double(), truth


@pytest.mark.parametrize("seed", [1, 2, 3, 13, 21])
def test_kernels_that_the_start_lacks_are_found(seed):
    """The start ranks some kernels of a planted circuit below the middle, and none near the top."""
    layer, unit, images, truth = planted_truth()
    generator = np.random.default_rng(seed)
    start = generator.random(len(truth)).astype(np.float32)
    start[truth] = 0.4 + 0.2 * generator.random(int(truth.sum()))
    start[~layer.reachable(unit)] = np.nan
    assert (nested_masks(start, (0.5,))[0] & truth).sum() < truth.sum()
    # After 100 steps, 13 and 21 still lack some.
    training = Training(steps=400, crop=None, batch=4, rate=0.005, seed=0)
    scores = learn(layer, images, [unit], starts={unit: start}, fractions=(0.5,), training=training)
    assert (nested_masks(scores[unit], (0.5,))[0] & truth).sum() == truth.sum()
    assert kept_of(layer, images, unit, scores[unit], (0.5,))[0] > 0.999


def test_a_circuit_that_the_start_has_is_kept():
    layer, unit, images, truth = planted_truth()
    fraction = truth.sum() / layer.reachable(unit).sum()
    start = np.where(truth, 1.0, 0.1 * np.arange(len(truth)) / len(truth)).astype(np.float32)
    start[~layer.reachable(unit)] = np.nan
    scores = learn(layer, images, [unit], starts={unit: start}, fractions=(0.5, fraction))[unit]
    np.testing.assert_array_equal(nested_masks(scores, (fraction,))[0], truth)


def test_kernels_that_change_nothing_give_way():
    """The start has kernels into channels that a bias keeps dead above all others, and more of
    them than the circuit has kernels."""
    layer, unit, images, truth = planted_truth()
    plant = planted()
    like = convolutions(plant.network.module.double(), plant.network.images(1).double()[0])
    marked = {name: np.zeros(weight.shape[:2]) for name, weight in like.items()}
    marked["stem"][5] = marked["one"][3] = marked["three"][0] = 1
    idle = on_axis(layer, unit, marked) == 1
    start = np.where(truth, 0.9, np.where(idle, 1.0, np.arange(len(truth)) / 100)).astype("f4")
    start[~layer.reachable(unit)] = np.nan
    assert idle.sum() > 2 * truth.sum()
    fraction = 2 * truth.sum() / layer.reachable(unit).sum()
    training = Training(steps=100, crop=None, batch=4, rate=0.005, seed=0)
    scores = learn(
        layer, images, [unit], starts={unit: start}, fractions=(0.6, fraction), training=training
    )[unit]
    kept = nested_masks(scores, (fraction,))[0]
    assert kept.sum() == 2 * truth.sum()
    assert (kept & truth).sum() == truth.sum()


class Rectified(nn.Module):
    """The planted network with a ReLU behind it, which lets its largest responses through."""

    def __init__(self, body: nn.Module, threshold: float) -> None:
        super().__init__()
        self.body = body
        self.threshold = threshold

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(images) - self.threshold)


def silent_start(ablation):
    """A layer, images, a unit, a start that keeps nothing of its planted circuit, and means."""
    plant = planted()
    images = plant.network.images(8).double()
    body = plant.network.module.double()
    with torch.no_grad():
        threshold = float(body(images)[:, plant.unit].quantile(0.8))
    graph = ModelGraph(Rectified(body, threshold).requires_grad_(False), tuple(images.shape[1:]))
    layer = open_layer(graph, f"body.{plant.layer}", activation="post")
    truth = planted_truth()[3]
    start = np.where(truth, 0.0, 1 + np.arange(len(truth)) / len(truth)).astype(np.float32)
    start[~layer.reachable(plant.unit)] = np.nan
    means = kernel_means(layer, [images]) if ablation == "mean" else None
    assert kept_of(layer, images, plant.unit, start, (0.4,), means)[0] == 0
    return layer, images, plant.unit, start, means


def learned_to_fire(layer, images, unit, start, means):
    """Whether training from such a start ends with a circuit that keeps the unit's map."""
    training = Training(steps=100, crop=None, batch=4, rate=0.01, seed=0)
    scores = learn(
        layer,
        images,
        [unit],
        starts={unit: start},
        fractions=(0.4,),
        training=training,
        means=means,
    )[unit]
    return kept_of(layer, images, unit, scores, (0.4,), means)[0] > 0.9


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_circuit_that_is_silent_learns_to_fire(ablation, monkeypatch):
    """The start keeps nothing of the planted circuit, so that nothing gets through the ReLU. More
    kernels are kept until something does, and then fewer again."""
    layer, images, unit, start, means = silent_start(ablation)
    kept = []

    class Counted(CompactCircuit):
        def maps(self, images, mask=None, first=None, *, rectified=True):
            if rectified:
                kept.append(int((mask.detach() > 0.5).sum()))
            return super().maps(images, mask, first, rectified=rectified)

    monkeypatch.setattr(learner, "CompactCircuit", Counted)
    assert learned_to_fire(layer, images, unit, start, means)
    assert kept[0] == kept[-1] == round(0.4 * layer.reachable(unit).sum())
    assert kept[1] > kept[0]


def test_a_circuit_that_cannot_keep_more_comes_to_fire(monkeypatch):
    """What there is before the ReLU says which kernels keep it silent."""
    layer, images, unit, start, means = silent_start("zero")
    monkeypatch.setattr(learner.Learner, "_hold", lambda *_, **__: None)
    assert learned_to_fire(layer, images, unit, start, means)


@pytest.mark.parametrize(("position", "fires"), [(None, True), ((0, 0), True), ((1, 1), False)])
def test_a_circuit_fires_where_its_response_is_taken(position, fires, monkeypatch):
    layer, images, unit, start, _ = silent_start("zero")

    class AtACorner(CompactCircuit):
        def maps(self, images, mask, **_):
            at = torch.zeros(len(images), 3, 3, dtype=images.dtype)
            at[:, 0, 0] = torch.arange(len(images)) + 1
            return at * mask.sum()

    seen = []
    monkeypatch.setattr(learner, "CompactCircuit", AtACorner)
    monkeypatch.setattr(learner.Learner, "_hold", lambda _, *, fires: seen.append(fires))
    one = learner.Learner(layer, unit, start, None)
    one.begin(0.4, steps=1, rate=0.01)
    one.step(images, torch.randn(len(images), 3, 3, dtype=images.dtype), 0.01, position)
    assert seen == [fires]


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", ["branched", "residual", "grouped", "depthwise", "gated"])
def test_training_keeps_more_than_its_start(name, ablation):
    network = NAMED[name]()
    layer = open_double(network, network.targets[-2])
    images = network.images(8).double()
    means = kernel_means(layer, [images]) if ablation == "mean" else None
    start = random_scores(layer, 1, seed=1)
    scores = learn(layer, images, [1], means=means)[1]
    np.testing.assert_array_equal(np.isnan(scores), ~layer.reachable(1))
    fractions = FRACTIONS[1:2]
    before = kept_of(layer, images, 1, start, fractions, means)
    after = kept_of(layer, images, 1, scores, fractions, means)
    assert after.mean() > before.mean() + 0.1


def test_a_ranking_is_the_same_again_and_whatever_units_are_beside_it():
    network = NAMED["branched"]()
    layer = open_double(network, network.targets[-2])
    images = network.images(6).double()
    weights = [site.weight.clone() for site in layer.network.sites]
    alone = learn(layer, images, [1])
    beside = learn(layer, images, [0, 1])
    np.testing.assert_array_equal(alone[1], beside[1])
    assert not np.array_equal(beside[0], beside[1])
    other = learn(layer, images, [1], training=Training(20, None, 4, 0.01, seed=5))
    assert not np.array_equal(other[1], alone[1])
    for site, weight in zip(layer.network.sites, weights, strict=True):
        assert torch.equal(site.weight, weight)


def test_scores_are_a_ranking():
    network = NAMED["sequential"]()
    layer = open_double(network, network.targets[-2])
    scores = learn(layer, network.images(4).double(), [2])[2]
    ranked = np.sort(scores[layer.reachable(2)])
    np.testing.assert_allclose(ranked, np.arange(1, len(ranked) + 1) / len(ranked), rtol=1e-6)


@pytest.mark.parametrize("target", ["map", "vector", "position"])
def test_what_is_explained(target):
    network = NAMED["sequential"]()
    name = "classify" if target == "vector" else network.targets[-2]
    layer = open_double(network, name)
    images = network.images(12).double()
    response = (0, 0) if target == "position" else "sum_abs"
    scores = learn(layer, images, [1], response=response)[1]
    masks = nested_masks(scores, (0.5,))
    circuit = circuit_maps(layer, 1, masks, images)[0]
    whole = circuit_maps(layer, 1, layer.reachable(1)[None], images)[0]
    if target == "position":
        circuit, whole = circuit[:, 0, 0], whole[:, 0, 0]
    assert np.corrcoef(circuit.flatten(), whole.flatten())[0, 1] > 0.5
