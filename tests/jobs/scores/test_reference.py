"""The engine gives the numbers of the paper's published code on its fixed network."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.masks import keep_best, nested_masks
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.force import ForceRun, force_scores
from circuit_atlas.jobs.scores.over_images import magnitude_scores, score_images
from tests.oracles import reference

# Of the largest score: both sides are float32 sums over up to 576 positions.
SCORE_TOLERANCE = 1e-5
PEARSON_TOLERANCE = 1e-3


@cache
def layer() -> TracedLayer:
    net = reference.plain_net().requires_grad_(False)
    return open_layer(ModelGraph(net, (3, 48, 48)), reference.LAYER)


def on_axis(kind: str, unit: int) -> np.ndarray:
    """The file's arrays of one kind, on the unit's kernel axis."""
    arrays = reference.expected(kind, unit)
    pieces = []
    for _, convolution, _ in layer().pieces():
        array = arrays[convolution.name]
        if convolution.one_row:
            array = array[..., [unit], :]
        pieces.append(array.reshape(*array.shape[:-2], -1))
    return np.concatenate(pieces, axis=-1)


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=SCORE_TOLERANCE * wanted.max())


@pytest.mark.parametrize("batch", [1, 4, 6])
@pytest.mark.parametrize("block", [1, 3])
def test_scores_of_single_images_and_of_the_set(batch, block):
    units = reference.UNITS
    scores = score_images(
        layer(),
        units,
        reference.images().split(batch),
        keep=dict.fromkeys(units, range(6)),
        criteria=["actgrad", "snip"],
        response="sum_abs",
        block=block,
    )
    for criterion, found in scores.items():
        for row, unit in enumerate(units):
            assert_close(found.mean[row], on_axis(criterion, unit))
            assert_close(found.single[row], on_axis(f"{criterion}_per_image", unit))


@pytest.mark.parametrize("unit", reference.UNITS)
def test_scores_of_one_position(unit):
    scores = score_images(
        layer(),
        [unit],
        [reference.images()],
        keep={unit: []},
        criteria=["actgrad"],
        response=(2, 3),
        block=1,
    )
    assert_close(scores["actgrad"].mean[0], on_axis("actgrad_at_2_3", unit))


@pytest.mark.parametrize("unit", reference.UNITS)
def test_magnitude(unit):
    assert_close(magnitude_scores(layer(), unit), on_axis("magnitude", unit))


@pytest.mark.parametrize("fraction", ["0.2", "0.05"])
@pytest.mark.parametrize("unit", reference.UNITS)
def test_force(unit, fraction):
    """Compared are the scores in the network that the last mask leaves, and the circuit of the
    best of them. The published loop keeps one kernel fewer a step than its schedule says, so its
    own counts are given; FORCE's masks depend on every one of them."""
    counts = reference.FORCE_COUNTS[fraction]
    course = ForceRun(unit, tuple(counts))
    (found,) = force_scores(layer(), [course], lambda: [reference.images()], response="sum_abs")
    wanted = on_axis(f"force@{fraction}", unit)
    assert_close(found, wanted)
    np.testing.assert_array_equal(keep_best(found, counts[-1]), keep_best(wanted, counts[-1]))


@pytest.mark.parametrize("criterion", ["actgrad", "snip", "magnitude"])
@pytest.mark.parametrize("unit", reference.UNITS)
def test_pearson_of_the_pruned_network(criterion, unit):
    stored = reference.arrays()
    images = reference.images()
    masks = nested_masks(on_axis(criterion, unit), stored["keep_fractions"])
    full = layer().network.forward(images)[layer().network.target.name][:, unit]
    compare = FullResponse(full.numpy()).compare
    circuits = circuit_maps(layer(), unit, masks, images).numpy()
    found = [compare(circuit).pearson for circuit in circuits]
    wanted = stored[f"pearson/{criterion}/{unit}"]
    assert [r is None for r in found] == list(np.isnan(wanted))
    defined = ~np.isnan(wanted)
    np.testing.assert_allclose(
        np.array(found, dtype=float)[defined], wanted[defined], rtol=0, atol=PEARSON_TOLERANCE
    )


@pytest.mark.parametrize("unit", reference.UNITS)
def test_every_kernel_of_a_plain_network_reaches_the_unit(unit):
    assert layer().reachable(unit).sum() == reference.arrays()[f"kernels/{unit}"]
