"""Running a pruned network, held against replacing each pruned kernel's map by hand: cut down for
the time of a run, and extracted as a network of its own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps, open_first_convolution
from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.extraction.small_network import small_network
from tests.jobs.axis import double_images, off_axis, open_double, open_mixed
from tests.oracles.convolutions import Mixed, Target, convolutions
from tests.oracles.faithfulness import circuit_response, full_response
from tests.oracles.networks import NAMED, Network, networks

# Of the largest response, both in float64: what remains is the order of sums.
TOLERANCE = 1e-9


def assert_maps(
    network: Network,
    layer: TracedLayer,
    unit: int,
    kept: float,
    ablation: str,
    *,
    mixed: Mixed | None = None,
) -> None:
    images = double_images(network, 2)
    scoring = network.images(3, seed=5).double()
    generator = np.random.default_rng(7)
    mask = layer.reachable(unit) & (generator.random(layer.upstream.index.size) < kept)
    like = {
        name: torch.zeros(weight.shape[:2], dtype=torch.bool)
        for name, weight in convolutions(network.module, images[0]).items()
    }
    masks = off_axis(layer, unit, mask, like)
    on_a_path = {convolution.name for convolution in layer.upstream.index.convolutions}
    target = Target(layer.index.layer, unit if mixed is None else mixed)
    wanted = circuit_response(
        network.module,
        images,
        target,
        masks={name: kernels for name, kernels in masks.items() if name in on_a_path},
        ablation=ablation,
        scoring=scoring,
    )
    means = kernel_means(layer, scoring.split(2)) if ablation == "mean" else None
    scale = np.abs(full_response(network.module, images, target)).max()
    for first in (None, open_first_convolution(layer, images, means)):
        found = circuit_maps(layer, unit, mask[None], images, means=means, first=first)[0].numpy()
        np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * scale)
    weights = pruned_weights(layer, unit, mask, means)
    small = small_network(layer.network, weights, layer.reads(unit), layer.targets([unit]))
    np.testing.assert_allclose(small.module(images), wanted, rtol=0, atol=TOLERANCE * scale)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", NAMED)
def test_every_kind_of_network(name, ablation):
    network = NAMED[name]()
    for target in {network.targets[-2], network.other_targets[-1], "classify"}:
        layer = open_double(network, target)
        for kept in (0.9, 0.4, 0.1, 0.0):
            assert_maps(network, layer, 1, kept, ablation)


@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_random_networks(data):
    network = data.draw(networks(blocks=2))
    target = data.draw(st.sampled_from(network.targets + network.other_targets))
    layer = open_double(network, target)
    unit = data.draw(st.integers(0, layer.index.channels - 1))
    kept = data.draw(st.sampled_from([0.05, 0.3, 0.7]))
    assert_maps(network, layer, unit, kept, data.draw(st.sampled_from(["zero", "mean"])))


def test_a_direction():
    network = NAMED["branched"]()
    target = network.other_targets[-1]
    vector = tuple(1.0 if n % 2 else 0.0 for n in range(network.channels(target)))
    layer = open_double(network, target, {"odd": vector})
    unit = layer.index.channels
    images = double_images(network, 2)
    found = circuit_maps(layer, unit, layer.reachable(unit)[None], images)[0].numpy()
    wanted = full_response(network.module, images, Target(target, vector))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * np.abs(wanted).max())


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("rectified", [True, False])
def test_a_direction_with_a_bias_and_a_relu_in_circuits(ablation, rectified):
    network = NAMED["branched"]()
    target = network.targets[-1]
    mixed = Mixed((0.7, 0.0, -1.5, 0.3), 0.2, rectified)
    layer = open_mixed(network, target, mixed)
    for kept in (0.9, 0.3, 0.0):
        assert_maps(network, layer, layer.index.channels, kept, ablation, mixed=mixed)


def test_which_networks_share_their_first_convolution():
    """Where it is shared, the test above has tried it."""
    ends = {}
    for name in ("sequential", "branched", "depthwise", "gated"):
        network = NAMED[name]()
        layer = open_double(network, network.targets[-1])
        first = open_first_convolution(layer, double_images(network, 1), None)
        ends[name] = None if first is None else layer.network.by_name[first.last.name].op
    assert ends == {
        "sequential": "max_pool2d",
        "branched": "relu",
        "depthwise": "relu",
        "gated": "relu",
    }


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", NAMED)
def test_each_image_in_a_circuit_of_its_own(name, ablation):
    network = NAMED[name]()
    for target in {network.targets[-2], network.other_targets[-1]}:
        layer = open_double(network, target)
        images = double_images(network, 3)
        means = kernel_means(layer, [images]) if ablation == "mean" else None
        generator = np.random.default_rng(5)
        drawn = generator.random((3, layer.upstream.index.size))
        # From the first image's circuit, which is empty, to one of most kernels.
        masks = layer.reachable(1) & (drawn < np.array([[0.0], [0.2], [0.8]]))
        for first in (None, open_first_convolution(layer, images, means)):
            found = circuit_maps(layer, 1, masks[None], images, means=means, first=first)[0]
            for n, mask in enumerate(masks):
                part = slice(n, n + 1)
                alone = circuit_maps(layer, 1, mask[None], images[part], means=means)[0, 0]
                scale = float(alone.abs().max()) or 1.0
                torch.testing.assert_close(found[n], alone, rtol=0, atol=TOLERANCE * scale)
                by_itself = circuit_maps(
                    layer,
                    1,
                    masks[None, part],
                    images[part],
                    means=means,
                    first=None if first is None else first.part(part),
                )[0, 0]
                torch.testing.assert_close(by_itself, alone, rtol=0, atol=TOLERANCE * scale)
