"""What is planted is true: held against the network itself, in float64, kernel by kernel."""

from __future__ import annotations

import copy
from collections.abc import Collection

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.planted.networks import NETWORKS, Kernel, PlantedNetwork, PlantedUnit, small

SUMS = 1e-6
"""Of the largest output: what rounding leaves where two channels cancel."""


def without(module: nn.Module, dropped: Collection[Kernel]) -> nn.Module:
    """A copy in float64 where some kernels are zero."""
    changed = copy.deepcopy(module).double()
    with torch.no_grad():
        for path, out, column in dropped:
            changed.get_submodule(path).get_parameter("weight")[out, column] = 0
    return changed


def every(module: nn.Module) -> set[Kernel]:
    return {
        (path, out, column)
        for path, part in module.named_modules()
        if isinstance(part, nn.Conv2d)
        for out in range(part.weight.shape[0])
        for column in range(part.weight.shape[1])
    }


@torch.no_grad()
def response(module: nn.Module, images: Tensor, unit: int) -> Tensor:
    y: Tensor = module(images.double())[:, unit]
    return y


def cases() -> list[tuple[PlantedNetwork, PlantedUnit]]:
    return [
        (network, unit)
        for make in NETWORKS.values()
        for network in [make(0)]
        for unit in network.units
    ]


@pytest.mark.parametrize(("network", "unit"), cases(), ids=lambda each: getattr(each, "name", None))
def test_the_planted_kernels_are_all_that_a_unit_needs(network, unit):
    module, images = network.module, network.images
    full = response(without(module, ()), images, unit.number)
    scale = float(full.max())
    assert 0.2 < float((full > 0).double().mean()) < 0.8
    decoys = every(module) - unit.kernels
    alone = response(without(module, decoys), images, unit.number)
    assert float((alone - full).abs().max()) <= SUMS * scale
    for kernel in unit.kernels:  # and none of them can be spared
        less = response(without(module, {*decoys, kernel}), images, unit.number)
        assert float((less - full).abs().mean()) > 0.01 * scale
    for part in unit.sub_features:
        some = images[list(part.images)]
        alone = response(without(module, every(module) - part.kernels), some, unit.number)
        assert float((alone - response(without(module, ()), some, unit.number)).abs().max()) == 0


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "cancelling"])
def test_no_decoy_matters_alone_and_the_largest_weights_are_decoys(name):
    network = NETWORKS[name](1)
    decoys = every(network.module) - set().union(*(unit.kernels for unit in network.units))
    for unit in network.units:
        full = response(without(network.module, ()), network.images, unit.number)
        for kernel in sorted(decoys)[::7]:
            less = response(without(network.module, {kernel}), network.images, unit.number)
            assert torch.equal(less, full)
    weights = {path: part.detach() for path, part in network.module.named_parameters()}
    sizes = {
        (path, out, column): float(weights[f"{path}.weight"][out, column].norm())
        for path, out, column in every(network.module)
    }
    planted = set(sizes) - decoys
    largest = sorted(sizes, key=lambda kernel: -sizes[kernel])[: len(sizes) // 2]
    assert len(planted.intersection(largest)) <= len(planted) / 4


def test_each_of_two_that_cancel_matters_alone():
    network = NETWORKS["cancelling"](0)
    full = response(without(network.module, ()), network.images, 0)
    for channel in (5, 6):
        less = response(without(network.module, {("last", 0, channel)}), network.images, 0)
        assert float((less - full).abs().mean()) > 0.1 * float(full.max())


def test_what_is_disjoint_what_overlaps_and_what_is_not_planted():
    first, other = (unit.kernels for unit in NETWORKS["disjoint"](0).units)
    assert not first & other
    first, other = (unit.kernels for unit in NETWORKS["overlapping"](0).units)
    assert len(first & other) == 4
    one, two = (part.kernels for part in NETWORKS["polysemantic"](0).units[0].sub_features)
    assert not one & two
    assert small(0).units[0].kernels == frozenset()


def test_a_seed_makes_one_network():
    one, again, other = (NETWORKS["residual"](seed) for seed in (3, 3, 4))
    assert torch.equal(one.images, again.images)
    assert torch.equal(
        one.module.get_parameter("stem.weight"), again.module.get_parameter("stem.weight")
    )
    assert not torch.equal(one.images, other.images)
