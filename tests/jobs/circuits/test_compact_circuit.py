"""The network cut to a set of kernels, held against the whole one with weights times a mask."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuit_atlas.jobs.circuits.compact_circuit import CompactCircuit
from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import kernel_positions
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.convolution import ConvWeights
from tests.jobs.axis import double_graph, double_images, open_double
from tests.oracles.networks import NAMED

TOLERANCE = 1e-10


def whole_maps(layer, unit, images, kept, means):
    """The unit's maps with each kernel scaled by `kept`, and its mean left in its place."""
    network, replaced = layer.network, {}
    padded = torch.cat([kept, kept.new_zeros(1)])
    for name, positions in kernel_positions(layer, unit).items():
        step = network.by_name[name]
        mask = padded[torch.from_numpy(positions)]
        bias = step.args[2] if len(step.args) > 2 else None
        if means is not None:
            shift = (means.by_step[name] * (1 - mask)).sum(1)
            bias = shift if bias is None else bias + shift
        weight = network.sites[step.convolution].weight * mask[:, :, None, None]
        replaced[name] = ConvWeights(weight, bias)
    output = network.forward(images, replaced=replaced)[network.target.name]
    return layer.targets([unit]).maps(output)[0]


@pytest.mark.parametrize("ablation", ["zero", "mean"])
@pytest.mark.parametrize("name", NAMED)
def test_maps_and_gradients_by_the_mask(name, ablation):
    network = NAMED[name]()
    layer, unit = open_double(network, network.targets[-2]), 1
    images = double_images(network, 2)
    means = kernel_means(layer, [images]) if ablation == "mean" else None
    generator = np.random.default_rng(3)
    for part in (1.0, 0.5, 0.15):
        inside = layer.reachable(unit) & (generator.random(layer.upstream.index.size) < part)
        # Neither 0 nor 1, so that no gate hides what a mask entry does.
        drawn = torch.from_numpy(generator.random(len(inside)) * inside).requires_grad_()
        twin = drawn.detach().clone().requires_grad_()
        found = CompactCircuit(layer, unit, inside, means).maps(images, drawn)
        wanted = whole_maps(layer, unit, images, twin, means)
        largest = float(wanted.detach().abs().max())
        torch.testing.assert_close(found, wanted, rtol=0, atol=TOLERANCE * largest)
        weighting = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(0)).double()
        (by_found,) = torch.autograd.grad((found * weighting).sum(), drawn)
        (by_wanted,) = torch.autograd.grad((wanted * weighting).sum(), twin)
        scale = float(by_wanted.abs().max()) or 1.0
        torch.testing.assert_close(
            by_found[inside], by_wanted[inside], rtol=0, atol=TOLERANCE * scale
        )


@pytest.mark.parametrize("activation", ["pre", "post"])
def test_maps_before_the_relu_that_makes_the_output(activation):
    network = NAMED["branched"]()
    layer = open_layer(double_graph(network), network.targets[-1], activation=activation)
    images = double_images(network, 3)
    kernels = layer.reachable(1) & (
        np.random.default_rng(0).random(layer.upstream.index.size) < 0.7
    )
    circuit = CompactCircuit(layer, 1, kernels)
    maps, before = circuit.maps(images), circuit.maps(images, rectified=False)
    assert (before < 0).any()
    torch.testing.assert_close(maps, before.relu() if activation == "post" else before)
