"""The oracles of faithfulness against the published rows, hand-made cases and scipy."""

from __future__ import annotations

import math
from functools import cache
from typing import Literal

import numpy as np
import pytest
import scipy.stats
import torch

from tests.oracles import networks, reference
from tests.oracles.convolutions import Masks, Target
from tests.oracles.faithfulness import (
    Maps,
    change_at_maximum,
    circuit_response,
    full_response,
    pearson,
    relative_l1,
    spearman,
)
from tests.oracles.reach import reach
from tests.oracles.scores import actgrad, keep_top, kernels, magnitude, over_set, snip


@cache
def _reach(unit: int) -> Masks:
    return reach(reference.plain_net(), reference.images()[0], reference.LAYER, unit)


@pytest.mark.parametrize("unit", reference.UNITS)
def test_the_published_pearson_rows(unit: int) -> None:
    """To 1e-3, what float32 leaves of r; and a circuit they find constant is constant here too."""
    net, images, stored = reference.plain_net(), reference.images(), reference.arrays()
    target = Target(reference.LAYER, unit)
    reached = _reach(unit)
    count = kernels(reached)
    full = full_response(net, images, target)
    assert count == stored[f"kernels/{unit}"]
    np.testing.assert_allclose(full, stored[f"activation/{unit}"], atol=1e-5)

    scores = {
        "actgrad": over_set(actgrad(net, images, target)),
        "snip": over_set(snip(net, images, target)),
        "magnitude": magnitude(net, images[0]),
    }
    for name, score in scores.items():
        found = []
        for fraction in stored["keep_fractions"]:
            masks = keep_top(score, reached, round(fraction * count))
            maps = circuit_response(net, images, target, masks=masks, ablation="zero")
            r = pearson(maps, full)
            found.append(math.nan if r is None else r)
        np.testing.assert_allclose(found, stored[f"pearson/{name}/{unit}"], atol=1e-3)


def test_measures_on_numbers_worked_by_hand() -> None:
    full = np.array([[[1.0, -4.0], [2.0, 1.0]]])
    circuit = np.array([[[1.0, -2.0], [1.5, 3.0]]])

    assert relative_l1(circuit, full) == (0 + 2 + 0.5 + 2) / 8
    assert change_at_maximum(circuit, full) == (1.5 - 2.0) / 2.0
    r = pearson(circuit, full)
    assert r is not None
    assert pearson(-circuit, full) == -r
    assert change_at_maximum(full - 3, full - 3) == 0.0
    assert change_at_maximum(full - 4, full - 3) == -1.0
    assert relative_l1(circuit, 0 * full) is None
    assert change_at_maximum(circuit, full - 2) is None


def test_r_is_undefined_where_either_side_is_constant() -> None:
    full = np.random.default_rng(0).normal(size=(2, 3, 3))
    flat = np.full_like(full, 0.1) * (1 + 1e-15)
    for measure in (pearson, spearman):
        assert measure(flat, full) is None
        assert measure(full, flat) is None
        assert measure(full, 2 * full + 1) == pytest.approx(1)


def test_correlations_agree_with_scipy_ties_included() -> None:
    generator = np.random.default_rng(0)
    full = generator.integers(0, 4, size=(2, 4, 5)).astype(float)
    circuit = full + generator.integers(-2, 3, size=full.shape).astype(float)

    assert pearson(circuit, full) == pytest.approx(
        scipy.stats.pearsonr(circuit.ravel(), full.ravel()).statistic
    )
    assert spearman(circuit, full) == pytest.approx(
        scipy.stats.spearmanr(circuit.ravel(), full.ravel()).statistic
    )


@pytest.mark.parametrize("name", sorted(networks.NAMED))
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_circuit_of_every_kernel_is_the_network(
    name: str, ablation: Literal["zero", "mean"]
) -> None:
    network = networks.NAMED[name]()
    images = network.images(2)
    target = Target(network.targets[-1], 1)
    masks = reach(network.module, images[0], target.layer, target.unit)

    maps = circuit_response(
        network.module, images, target, masks=masks, ablation=ablation, scoring=images
    )

    np.testing.assert_allclose(maps, full_response(network.module, images, target), atol=1e-12)


def test_mean_ablation_keeps_the_mean_and_zero_ablation_the_bias() -> None:
    """With the target's own row pruned whole, what remains of y."""
    network = networks.NAMED["sequential"]()
    images, target = network.images(3), Target("last", 2)
    whole = reach(network.module, images[0], "last", 2)
    masks = {name: kept & (name != "last") for name, kept in whole.items()}
    full = full_response(network.module, images, target)

    def pruned(ablation: Literal["zero", "mean"]) -> Maps:
        return circuit_response(
            network.module, images, target, masks=masks, ablation=ablation, scoring=images
        )

    bias = float(network.module.get_parameter("last.bias").detach()[2])
    np.testing.assert_allclose(pruned("zero"), bias, rtol=1e-12)
    np.testing.assert_allclose(pruned("mean"), full.mean(), rtol=1e-12)


def test_mean_ablation_of_one_kernel_by_hand() -> None:
    convolution = torch.nn.Conv2d(2, 1, 1)
    net = torch.nn.Sequential(convolution)
    images = torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = {"0": torch.tensor([[True, False]])}

    maps = circuit_response(
        net, images[2:], Target("0"), masks=masks, ablation="mean", scoring=images[:2]
    )

    first, second = convolution.weight.detach().double()[0, :, 0, 0]
    bias = net.get_parameter("0.bias").detach().double()
    wanted = first * images[2:, 0].double() + second * images[:2, 1].double().mean() + bias
    np.testing.assert_allclose(maps, wanted.numpy(), rtol=1e-12)
