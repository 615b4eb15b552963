"""Circuits run on some of the images, in whatever order these are named."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun, run_circuits
from circuit_atlas.jobs.circuits.connectivity import Connectivity
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
