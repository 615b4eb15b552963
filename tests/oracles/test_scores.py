"""The oracles of the scores give what the published code gave."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from tests.oracles import networks, reference
from tests.oracles.convolutions import ConvCall, Masks, Target, response
from tests.oracles.reach import reach
from tests.oracles.scores import (
    Force,
    Scores,
    actgrad,
    force,
    keep_top,
    kernels,
    magnitude,
    over_set,
    schedule,
    snip,
)

TOLERANCE = 1e-5
"""Of the largest score: the reference is float32, summed over up to 576 positions."""


def assert_same(found: Scores, wanted: dict[str, NDArray[np.float64]]) -> None:
    largest = max(array.max() for array in wanted.values())
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=TOLERANCE * largest)


@cache
def _reach(unit: int) -> Masks:
    return reach(reference.plain_net(), reference.images()[0], reference.LAYER, unit)


@cache
def _force(unit: int, fraction: str) -> Force:
    return force(
        reference.plain_net(),
        reference.images(),
        Target(reference.LAYER, unit),
        reach=_reach(unit),
        counts=reference.FORCE_COUNTS[fraction],
    )


@pytest.mark.parametrize("unit", reference.UNITS)
def test_one_pass_scores_are_the_published_ones(unit: int) -> None:
    net, images = reference.plain_net(), reference.images()
    target = Target(reference.LAYER, unit)

    for kind, score in (("actgrad", actgrad), ("snip", snip)):
        per_image = score(net, images, target)
        assert_same(over_set(per_image), reference.expected(kind, unit))
        for name in reference.CONVOLUTIONS:
            wanted = reference.arrays()[f"{kind}_per_image/{unit}/{name}"]
            np.testing.assert_allclose(
                per_image[name], wanted, rtol=0, atol=TOLERANCE * wanted.max()
            )

    own_row = {name: np.asarray(kept) for name, kept in _reach(unit).items()}
    found = {name: own_row[name] * array for name, array in magnitude(net, images[0]).items()}
    assert_same(found, reference.expected("magnitude", unit))

    at = actgrad(net, images, Target(reference.LAYER, unit, (2, 3)))
    assert_same(over_set(at), reference.expected("actgrad_at_2_3", unit))


@pytest.mark.parametrize("unit", reference.UNITS)
@pytest.mark.parametrize("fraction", ["0.2", "0.05"])
def test_force_is_the_published_one(unit: int, fraction: str) -> None:
    """Compared are the scores after the last mask, at the numbers of kernels they really keep."""
    found = _force(unit, fraction)

    assert_same(found.scores_after, reference.expected(f"force@{fraction}", unit))
    counts = reference.FORCE_COUNTS[fraction]
    assert tuple(kernels(step.masks) for step in found.steps) == counts


def test_force_lets_a_kernel_come_back() -> None:
    steps = _force(3, "0.05").steps
    returned = sum(
        int((later.masks[name] & ~earlier.masks[name]).sum())
        for earlier, later in itertools.pairwise(steps)
        for name in later.masks
    )
    assert returned > 0


def test_the_schedule_goes_from_all_kernels_to_the_ones_kept() -> None:
    published = tuple(count + 1 for count in reference.FORCE_COUNTS["0.2"])
    assert schedule(328, 66, 10) == published
    assert schedule(328, 66, 1) == (66,)
    # exp(ln 10) is 10.000000000000002: rounded up as it comes, it would be 11.
    assert schedule(328, 10, 10)[-1] == 10


def test_equal_scores_go_by_convolution_then_row_then_column() -> None:
    reached = {"a": torch.ones(2, 2, dtype=torch.bool), "b": torch.ones(1, 2, dtype=torch.bool)}
    reached["a"][0, 0] = False
    scores = {"a": np.ones((2, 2)), "b": np.array([[1.0, 2.0]])}

    masks = keep_top(scores, reached, 3)

    assert masks["a"].tolist() == [[False, True], [True, False]]
    assert masks["b"].tolist() == [[False, True]]


def test_responses() -> None:
    y = torch.tensor([[-3.0, 1.0], [2.0, 0.5]])
    assert response(y, "sum_abs") == 6.5
    assert response(y, "max") == 2.0
    assert response(y, (0, 0)) == 3.0


@pytest.mark.parametrize("name", sorted(networks.NAMED))
def test_kernel_maps_add_up_in_every_kind_of_network(name: str) -> None:
    """Σ_i A_oi + bias = Y_o, also where groups, padding or dilation say which inputs those are."""
    network = networks.NAMED[name]()
    checked: list[str] = []

    def check(call: ConvCall) -> torch.Tensor:
        output = call.run(call.weight)
        for out in range(len(call.weight)):
            parts = [call.kernel_map(out, column) for column in range(call.weight.shape[1])]
            bias = 0.0 if call.bias is None else call.bias[out]
            torch.testing.assert_close(torch.stack(parts).sum(0) + bias, output[0, out])
        checked.append(call.name)
        return output

    networks.run(network, check)
    assert set(network.targets) <= set(checked)


@pytest.mark.parametrize("name", sorted(networks.NAMED))
def test_what_cannot_reach_scores_zero_and_a_direction_is_a_sum(name: str) -> None:
    network = networks.NAMED[name]()
    layer, images = network.targets[-1], network.images(2)
    reached = reach(network.module, images[0], layer, 1)

    for score in (actgrad, snip):
        found = score(network.module, images, Target(layer, 1))
        for convolution, kept in reached.items():
            assert not found[convolution][:, ~kept.numpy()].any()
        channels = network.channels(layer)
        direction = tuple(float(channel == 1) for channel in range(channels))
        again = score(network.module, images, Target(layer, direction))
        for convolution, array in found.items():
            np.testing.assert_allclose(again[convolution], array)


def test_the_planted_circuit_is_what_gradient_scores_find_and_magnitude_does_not() -> None:
    planted = networks.planted()
    network, target = planted.network, Target(planted.layer, planted.unit)
    images = network.images(4)
    reached = reach(network.module, images[0], planted.layer, planted.unit)
    count = len(planted.kernels)

    def found(scores: Scores) -> set[tuple[str, int, int]]:
        masks = keep_top(scores, reached, count)
        return {
            (name, out, column)
            for name, kept in masks.items()
            for out, column in kept.nonzero().tolist()
        }

    module = network.module
    assert found(over_set(actgrad(module, images, target))) == planted.kernels
    assert found(over_set(snip(module, images, target))) == planted.kernels
    assert found(magnitude(module, images[0])) != planted.kernels
    counts = schedule(kernels(reached), count, 10)
    last = force(module, images, target, reach=reached, counts=counts).steps[-1]
    assert found(last.scores) == planted.kernels
