"""Gradients averaged on the way to an image, held against autograd in float64."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.integrated import ImagePath, mean_colour
from circuit_atlas.jobs.scores.over_images import score_images
from tests.jobs.axis import double_images, on_axis, open_double
from tests.oracles import ablated_scores
from tests.oracles.convolutions import Target
from tests.oracles.networks import NAMED

# Of the largest score: both sides compute in float64, and what is stored is float32.
TOLERANCE = 1e-6
CASES = [(name, make().targets[-1]) for name, make in NAMED.items()]


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize(("name", "target"), [*CASES, ("residual", "classify")])
def test_gradients_are_averaged_on_the_way_from_one_colour_to_the_image(name, target, mean):
    network = NAMED[name]()
    layer, images = open_double(network, target), double_images(network, 2)
    means = kernel_means(layer, [images]) if mean else None
    found = score_images(
        layer,
        [0, 1],
        [images],
        keep={0: [], 1: [1, 0]},
        criteria=["integrated", CONTRIBUTION],
        response="sum_abs",
        block=2,
        path=ImagePath(3, mean_colour(images.split(1)), means),
    )["integrated"]
    for unit in (0, 1):
        oracle = ablated_scores.integrated(
            network.module, images, Target(target, unit), steps=3, mean=mean
        )
        wanted = on_axis(layer, unit, oracle)
        atol = TOLERANCE * (np.nanmax(wanted, initial=0.0) or 1.0)
        np.testing.assert_allclose(found.mean[unit], wanted.mean(0), rtol=0, atol=atol)
        if unit == 1:
            np.testing.assert_allclose(found.single[unit], wanted[[1, 0]], rtol=0, atol=atol)


def test_one_step_is_activation_times_gradient():
    network = NAMED["branched"]()
    layer, images = open_double(network, network.targets[-1]), double_images(network, 2)
    found = score_images(
        layer,
        [0, 1],
        [images],
        keep={0: [], 1: []},
        criteria=["actgrad", "integrated"],
        response="sum_abs",
        block=2,
        path=ImagePath(1, mean_colour([images]), None),
    )
    np.testing.assert_allclose(found["integrated"].mean, found["actgrad"].mean, rtol=1e-6)


def test_the_path_leads_from_one_colour_to_the_image():
    network = NAMED["residual"]()
    layer, images = open_double(network, network.targets[-1]), double_images(network, 2)
    whole = Forward(layer.network, layer.network.forward(images[:1]))
    colour = mean_colour(images.split(1))
    path = list(ImagePath(4, colour, None).forwards(images[:1], whole))
    assert len(path) == 4
    assert path[-1] is whole
    first = path[0].values[layer.network.image]
    np.testing.assert_allclose(first, 0.75 * colour + 0.25 * images[:1], rtol=1e-12)
    np.testing.assert_allclose(colour[0, :, 0, 0], images.mean((0, 2, 3)), rtol=1e-12)


def test_without_a_path_there_is_no_score():
    network = NAMED["sequential"]()
    layer, images = open_double(network, "last"), double_images(network, 1)
    with pytest.raises(ValueError, match="gradients of integrated are averaged along a path"):
        score_images(
            layer,
            [0],
            [images],
            keep={0: []},
            criteria=["integrated"],
            response="sum_abs",
            block=1,
        )
