"""Activation x gradient beyond the mean, held against the map of each kernel in float64."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import score_images
from tests.jobs.axis import double_images, on_axis, open_double
from tests.oracles import ablated_scores, scores
from tests.oracles.convolutions import Target
from tests.oracles.networks import NAMED

# Of the largest score: both sides compute in float64, and what is stored is float32.
TOLERANCE = 1e-6
CASES = [(name, make().targets[-1]) for name, make in NAMED.items()]


@pytest.mark.parametrize(("name", "target"), [*CASES, ("residual", "classify")])
def test_a_kernels_mean_is_taken_off_what_it_adds(name, target):
    network = NAMED[name]()
    layer, images = open_double(network, target), double_images(network, 3)
    found = score_images(
        layer,
        [0, 1],
        images.split(2),
        keep={0: [], 1: [2, 0]},
        criteria=["actgrad", "actgrad_centred", CONTRIBUTION],
        response="sum_abs",
        block=2,
        means=kernel_means(layer, images.split(2)),
    )
    for unit in (0, 1):
        wanted = on_axis(
            layer,
            unit,
            ablated_scores.actgrad_centred(network.module, images, Target(target, unit)),
        )
        atol = TOLERANCE * (np.nanmax(wanted, initial=0.0) or 1.0)
        of_set = found["actgrad_centred"].mean[unit]
        np.testing.assert_allclose(of_set, wanted.mean(0), rtol=0, atol=atol)
        if unit == 1:
            single = found["actgrad_centred"].single[unit]
            np.testing.assert_allclose(single, wanted[[2, 0]], rtol=0, atol=atol)
            # The others of one pass are what they are without it.
            plain = on_axis(
                layer, unit, scores.actgrad(network.module, images, Target(target, unit))
            )
            np.testing.assert_allclose(found["actgrad"].mean[unit], plain.mean(0), atol=atol)


def test_without_the_means_there_is_no_score():
    network = NAMED["sequential"]()
    layer, images = open_double(network, "last"), double_images(network, 1)
    with pytest.raises(ValueError, match="made with the inputs' means"):
        score_images(
            layer,
            [0],
            [images],
            keep={0: []},
            criteria=["actgrad_centred"],
            response="sum_abs",
            block=1,
        )
