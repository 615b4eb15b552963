"""Circuits run on some of the images, in whatever order these are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.connectivity import Connectivity
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from tests.jobs.axis import double_images, open_double
from tests.oracles.networks import NAMED

UNIT = 1


@pytest.mark.parametrize("together", [2, 6])
@pytest.mark.parametrize("indices", [[2, 4, 3, 5], [5, 0, 3], [1, 2, 3], [0, 2, 5]])
def test_maps_are_of_the_images_in_their_order(indices, together):
    network = NAMED["branched"]()
    layer = open_double(network, network.targets[-1])
    images = double_images(network, 6)
    generator = np.random.default_rng(0)
    mask = layer.reachable(UNIT) & (generator.random(layer.upstream.index.size) < 0.5)
    masks = np.stack([mask, layer.reachable(UNIT)])

    def batches(wanted: Sequence[int]) -> Iterator[Tensor]:
        return iter(images[list(wanted)].split(together))

    with torch.no_grad():
        full = layer.network.output(images)[:, UNIT].numpy()
    run = CircuitRun(UNIT, "zero", masks, full[indices], indices)
    # Beside a run of all images, so that what goes together is not this one's alone.
    every = CircuitRun(UNIT, "zero", masks, full, range(6))
    run_circuits(layer, [run, every], batches, means=None)
    for n, index in enumerate(indices):
        alone = circuit_maps(layer, UNIT, mask[None], images[[index]])[0, 0].numpy()
        np.testing.assert_allclose(run.maps[0, n], alone, rtol=1e-9, atol=1e-12)
        np.testing.assert_array_equal(run.maps[1, n], full[index])
    assert run.acting.tolist() == Connectivity(layer).acting(UNIT, masks).sum(axis=1).tolist()
    assert run.acting[1] == layer.reachable(UNIT).sum() > run.acting[0] > 0
    np.testing.assert_allclose(every.maps[0, indices], run.maps[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("indices", [[2, 4, 3, 5], [5, 0, 3]])
def test_each_image_goes_through_circuits_of_its_own(indices):
    network = NAMED["branched"]()
    layer = open_double(network, network.targets[-1])
    images = double_images(network, 6)
    generator = np.random.default_rng(0)
    shape = (2, len(indices), layer.upstream.index.size)
    masks = layer.reachable(UNIT) & (generator.random(shape) < [[[0.6]], [[0.2]]])
    with torch.no_grad():
        full = layer.network.output(images)[:, UNIT].numpy()

    run = CircuitRun(UNIT, "zero", masks, full[indices], indices)
    run_circuits(layer, [run], lambda wanted: iter(images[list(wanted)].split(2)), means=None)

    for n, index in enumerate(indices):
        alone = circuit_maps(layer, UNIT, masks[:, n], images[[index]])[:, 0].numpy()
        np.testing.assert_allclose(run.maps[:, n], alone, rtol=1e-9, atol=1e-12)
        acting = Connectivity(layer).acting(UNIT, masks[:, n]).sum(axis=1)
        assert run.acting[:, n].tolist() == acting.tolist()


class Denoised(nn.Module):
    """What is left of an image when the noise in it is taken off: it gets there without kernels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.inner = nn.Conv2d(3, 4, 3, padding=1)
        self.noise = nn.Conv2d(4, 3, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x - self.noise(torch.relu(self.inner(x)))


@pytest.mark.parametrize(("layer_name", "constant"), [("0", False), ("0.noise", True)])
def test_a_circuit_in_which_no_kernel_acts(layer_name, constant):
    """It is the same for every image, unless the image gets to the unit without kernels."""
    module = nn.Sequential(Denoised()).double().eval().requires_grad_(False)
    layer = open_layer(ModelGraph(module, (3, 8, 8)), layer_name, activation="pre")
    images = torch.randn(5, 3, 8, 8, dtype=torch.float64)
    mask = np.zeros((1, layer.upstream.index.size), np.bool_)
    mask[0, np.flatnonzero(layer.reachable(UNIT))[0]] = True
    with torch.no_grad():
        full = layer.network.output(images)[:, UNIT].numpy()

    run = CircuitRun(UNIT, "zero", mask, full, range(5))
    run_circuits(layer, [run], lambda wanted: iter(images[list(wanted)].split(2)), means=None)

    assert run.acting.tolist() == [0]
    assert (run.maps[0] == run.maps[0, :1]).all() == constant
    alone = circuit_maps(layer, UNIT, mask, images)[0].numpy()
    np.testing.assert_allclose(run.maps[0], alone, rtol=1e-9, atol=1e-12)
