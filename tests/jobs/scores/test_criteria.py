"""Scores of every criterion, held against the formulas written out slowly in float64."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.over_images import magnitude_scores, random_scores, score_images
from tests.jobs.axis import double_images, on_axis, open_double, open_mixed
from tests.oracles import ablated_scores
from tests.oracles import scores as oracle
from tests.oracles.convolutions import Masks, Mixed, Target
from tests.oracles.networks import NAMED, Network, networks, planted
from tests.oracles.reach import reach

# Of the largest score: both sides compute in float64 and differ in the order of sums; what is
# stored is rounded to float32.
TOLERANCE = 1e-6

CASES = [(name, target) for name, make in NAMED.items() for target in make().targets]
CLASS_SCORES = [(name, "classify") for name in ("branched", "residual", "depthwise", "gated")]
CRITERIA = {"actgrad": oracle.actgrad, "snip": oracle.snip}


@cache
def opened(name: str, target: str) -> tuple[Network, TracedLayer]:
    network = NAMED[name]()
    return network, open_double(network, target)


def assert_scores(network: Network, layer: TracedLayer, target: Target, *, count: int = 2) -> None:
    """Both per-image scores of one unit, of single images and of the set; a direction is the
    layer's last unit."""
    unit = target.unit if isinstance(target.unit, int) else len(layer.index.units) - 1
    images = double_images(network, count)
    for criterion, formula in CRITERIA.items():
        found = score_images(
            layer,
            [unit],
            [images],
            keep={unit: range(count)},
            criteria=[criterion],
            response=target.response,
            block=4,
        )[criterion]
        wanted = on_axis(layer, unit, formula(network.module, images, target))
        largest = np.nanmax(wanted, initial=0.0) or 1.0
        np.testing.assert_allclose(found.single[0], wanted, rtol=0, atol=TOLERANCE * largest)
        np.testing.assert_allclose(found.mean[0], wanted.mean(0), rtol=0, atol=TOLERANCE * largest)
    assert_contribution(network, layer, target, unit, images)


def assert_contribution(
    network: Network, layer: TracedLayer, target: Target, unit: int, images: Tensor
) -> None:
    """The signed contribution, found on the way to either score, and its bound."""
    wanted = on_axis(layer, unit, oracle.contribution(network.module, images, target)).mean(0)
    for criteria in (["actgrad", CONTRIBUTION], ["snip", CONTRIBUTION]):
        found = score_images(
            layer,
            [unit],
            [images],
            keep={unit: [0]},
            criteria=criteria,
            response=target.response,
            block=4,
        )
        assert set(found) == set(criteria)
        mean, kept = found[CONTRIBUTION].mean[0], found[CONTRIBUTION].single
        assert kept == ()
        largest = np.nanmax(np.abs(wanted), initial=0.0) or 1.0
        np.testing.assert_allclose(mean, wanted, rtol=0, atol=TOLERANCE * largest)
        if "actgrad" in found:
            bound = found["actgrad"].mean[0]
            known = ~np.isnan(bound)
            assert (np.abs(mean[known]) <= bound[known] * (1 + TOLERANCE)).all()


@pytest.mark.parametrize(("name", "target"), CASES + CLASS_SCORES)
def test_every_kind_of_convolution(name, target):
    network, layer = opened(name, target)
    for unit in (0, layer.index.channels - 1):
        assert_scores(network, layer, Target(target, unit))


@pytest.mark.parametrize("response", ["max", (1, 2)])
@pytest.mark.parametrize("name", ["branched", "residual", "depthwise"])
def test_other_responses(name, response):
    network, layer = opened(name, NAMED[name]().targets[-1])
    assert_scores(network, layer, Target(layer.index.layer, 1, response))


@settings(
    max_examples=8,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data())
def test_random_networks(data):
    network = data.draw(networks(blocks=2))
    target = data.draw(st.sampled_from(network.targets + network.other_targets))
    layer = open_double(network, target)
    unit = data.draw(st.integers(0, layer.index.channels - 1))
    response = data.draw(st.sampled_from(["sum_abs", "max", (0, 1)]))
    assert_scores(network, layer, Target(target, unit, response), count=1)


@pytest.mark.parametrize("name", ["residual", "grouped", "depthwise", "gated", "shuffled"])
def test_batches_and_blocks_change_nothing(name):
    network, layer = opened(name, NAMED[name]().targets[-1])
    images = double_images(network, 16)
    units = list(range(layer.index.channels))
    criteria = [*CRITERIA, CONTRIBUTION]

    def scores(numbers, batch, block):
        return score_images(
            layer,
            numbers,
            images.split(batch),
            keep={n: [3, 0] for n in numbers},
            criteria=criteria,
            response="sum_abs",
            block=block,
        )

    whole = scores(units, 16, len(units))
    for batch, block in ((1, len(units)), (4, 1), (16, 2)):
        for criterion, found in scores(units, batch, block).items():
            np.testing.assert_allclose(found.mean, whole[criterion].mean, rtol=1e-6)
            np.testing.assert_allclose(found.single, whole[criterion].single, rtol=1e-6)
    for unit in units:
        for criterion, found in scores([unit], 16, 1).items():
            np.testing.assert_allclose(found.mean[0], whole[criterion].mean[unit], rtol=1e-6)


@pytest.mark.parametrize("response", ["sum_abs", "max", (1, 2)])
@pytest.mark.parametrize("rectified", [True, False])
@pytest.mark.parametrize("name", ["branched", "residual"])
def test_directions_with_a_bias_and_a_relu(name, rectified, response):
    network = NAMED[name]()
    target = network.targets[-1]
    weights = tuple(0.5 * (-1) ** n * (n + 1) for n in range(network.channels(target)))
    unit = Mixed(weights, -0.1, rectified)
    layer = open_mixed(network, target, unit)
    assert_scores(network, layer, Target(target, unit, response))


@pytest.mark.parametrize("weight", [2.0, -0.5])
def test_a_direction_of_a_single_channel_is_that_channel_times_its_weight(weight):
    network = NAMED["branched"]()
    target = network.targets[-1]
    unit = Mixed((0.0, weight, 0.0, 0.0), 0.0, rectified=False)
    assert network.channels(target) == len(unit.weights)
    assert_scores(network, open_mixed(network, target, unit), Target(target, unit))


def test_a_rectified_direction_that_never_fires_has_scores_of_zero():
    network = NAMED["branched"]()
    unit = Mixed((1.0, 1.0, 0.0, 0.0), -1e6, rectified=True)
    layer = open_mixed(network, network.targets[-1], unit)
    for response in ("sum_abs", "max"):
        assert_scores(network, layer, Target(network.targets[-1], unit, response))


def test_a_direction_is_the_unit_of_its_weighted_channels():
    network, _ = opened("branched", NAMED["branched"]().targets[-1])
    target = network.targets[-1]
    vector = tuple(float(n - 1) for n in range(network.channels(target)))
    layer = open_double(network, target, {"mixed": vector})
    images = double_images(network, 2)
    unit = layer.index.channels
    found = score_images(
        layer,
        [0, unit],
        [images],
        keep={0: [], unit: []},
        criteria=["actgrad"],
        response="sum_abs",
        block=4,
    )["actgrad"]
    for row, named in enumerate((0, vector)):
        wanted = oracle.over_set(oracle.actgrad(network.module, images, Target(target, named)))
        number = (0, unit)[row]
        values = on_axis(layer, number, wanted)
        largest = np.nanmax(values)
        np.testing.assert_allclose(found.mean[row], values, rtol=0, atol=TOLERANCE * largest)


@pytest.mark.parametrize(("name", "target"), CASES)
def test_magnitude(name, target):
    network, layer = opened(name, target)
    wanted = on_axis(layer, 1, oracle.magnitude(network.module, network.images(1)[0]))
    np.testing.assert_allclose(magnitude_scores(layer, 1), wanted, rtol=1e-5)


def test_random_is_seeded_by_layer_and_unit():
    _, layer = opened("grouped", NAMED["grouped"]().targets[-1])
    scores = [
        random_scores(layer, unit, seed=seed) for unit, seed in ((0, 0), (0, 0), (1, 0), (0, 1))
    ]
    np.testing.assert_array_equal(scores[0], scores[1])
    for other in scores[2:]:
        both = ~np.isnan(scores[0]) & ~np.isnan(other)
        assert (scores[0][both] != other[both]).any()
    np.testing.assert_array_equal(np.isnan(scores[0]), ~layer.reachable(0))


@pytest.mark.parametrize(("batch", "score"), [(1, "snip"), (2, "snip"), (2, "actgrad")])
@pytest.mark.parametrize("name", NAMED)
def test_force(name, batch, score):
    network, layer = opened(name, NAMED[name]().targets[-1])
    images = double_images(network, 2)
    target = Target(layer.index.layer, 1)
    reached: Masks = reach(network.module, images[0], target.layer, 1)
    counts = schedule(9, int(layer.reachable(1).sum()), 4)
    assert counts == oracle.schedule(oracle.kernels(reached), 9, 4)
    (found,) = force_scores(
        layer,
        [ForceRun(1, counts)],
        lambda: images.split(batch),
        response=target.response,
        score=score,
    )
    formula = oracle.force(
        network.module, images, target, reach=reached, counts=counts, score=CRITERIA[score]
    )
    wanted = on_axis(layer, 1, formula.scores_after)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.nanmax(wanted))


@pytest.mark.parametrize("unit", [Mixed((1.0, -0.5, 0.0, 0.7), -0.05, rectified=True), 1])
def test_force_of_a_rectified_direction_and_of_a_class_score(unit):
    network = NAMED["branched"]()
    if isinstance(unit, Mixed):
        target = Target(network.targets[-1], unit)
        layer = open_mixed(network, target.layer, unit)
        number = layer.index.channels
    else:
        target, number = Target("classify", unit), unit
        layer = open_double(network, target.layer)
    images = double_images(network, 3)
    reached: Masks = reach(network.module, images[0], target.layer, target.unit)
    counts = schedule(9, int(layer.reachable(number).sum()), 3)
    (found,) = force_scores(
        layer, [ForceRun(number, counts)], lambda: images.split(2), response="sum_abs"
    )
    scores = oracle.force(network.module, images, target, reach=reached, counts=counts)
    wanted = on_axis(layer, number, scores.scores_after)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.nanmax(wanted))


@pytest.mark.parametrize("name", ["branched", "residual", "depthwise", "grouped", "gated"])
def test_force_of_a_score_for_mean_ablation_goes_by_networks_with_means(name):
    network, layer = opened(name, "last")
    images = double_images(network, 2)
    target = Target("last", 1)
    reached: Masks = reach(network.module, images[0], target.layer, 1)
    counts = schedule(9, int(layer.reachable(1).sum()), 3)
    (found,) = force_scores(
        layer,
        [ForceRun(1, counts)],
        lambda: [images],
        response="sum_abs",
        score="actgrad_centred",
        means=kernel_means(layer, [images]),
    )
    formula = oracle.force(
        network.module,
        images,
        target,
        reach=reached,
        counts=counts,
        score=ablated_scores.actgrad_centred,
    )
    wanted = on_axis(layer, 1, formula.scores_after)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.nanmax(wanted))


@pytest.mark.parametrize("criterion", ["actgrad", "snip", "force"])
def test_a_planted_circuit_is_found(criterion):
    case = planted()
    layer = open_double(case.network, case.layer)
    images = double_images(case.network, 4)
    count = len(case.kernels)
    if criterion == "force":
        counts = schedule(count, int(layer.reachable(case.unit).sum()), 10)
        course = ForceRun(case.unit, counts)
        (scores,) = force_scores(layer, [course], lambda: [images], response="sum_abs")
    else:
        scores = score_images(
            layer,
            [case.unit],
            [images],
            keep={case.unit: []},
            criteria=[criterion],
            response="sum_abs",
            block=1,
        )[criterion].mean[0]
    kept = np.flatnonzero(keep_best(scores, count))
    ordinal, out, into = layer.upstream.index.locate(kept, layer.upstream.rows[case.unit])
    names = [layer.upstream.index.convolutions[n].name for n in ordinal]
    assert set(zip(names, out.tolist(), into.tolist(), strict=True)) == case.kernels
    by_size = keep_best(magnitude_scores(layer, case.unit), count)
    assert set(np.flatnonzero(by_size)) != set(kept), "the decoys deceive magnitude"


class Twice(nn.Module):
    """One convolution, applied at two sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.out(self.conv(nn.functional.avg_pool2d(torch.tanh(self.conv(x)), 2)))
        return y


@pytest.mark.parametrize("score", ["actgrad", "snip"])
def test_each_call_of_a_convolution_counts_by_its_own_positions(score):
    torch.manual_seed(0)
    module = Twice().double().eval().requires_grad_(False)
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64)
    first, second = (module.conv.weight.clone().requires_grad_() for _ in range(2))
    inner = nn.functional.conv2d(image, first, module.conv.bias, padding=1)
    pooled = nn.functional.avg_pool2d(torch.tanh(inner), 2)
    y = module.out(nn.functional.conv2d(pooled, second, module.conv.bias, padding=1))[0, 1]
    gradients = torch.autograd.grad(y.abs().sum(), [first, second])
    wanted = sum(
        (module.conv.weight * gradient).sum((2, 3)) / positions
        for gradient, positions in zip(gradients, (64, 16), strict=True)
    )
    layer = open_layer(ModelGraph(module, (3, 8, 8)), "out")
    found = score_images(
        layer,
        [1],
        [image],
        keep={1: []},
        criteria=[score, CONTRIBUTION],
        response="sum_abs",
        block=1,
    )[CONTRIBUTION].mean[0]
    np.testing.assert_allclose(found[:9], wanted.flatten().numpy(), rtol=1e-6)
