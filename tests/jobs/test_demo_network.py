"""Known values: real weights, real photos, the numbers that the method is known to reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec

LAYER = "features.7.expand3x3"
UNITS = (0, 10, 20, 30, 40, 50)
FRACTIONS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005)
# Of y before the ReLU, medians of abs(r).
BEFORE = {
    "actgrad": (0.886, 0.740, 0.626, 0.373, 0.296, 0.174, 0.107),
    "snip": (0.861, 0.717, 0.578, 0.339, 0.361, 0.164, 0.076),
}
# Of y after the ReLU, medians of r, by what the scores explain.
AFTER: dict[Activation, tuple[float, ...]] = {
    "pre": (0.813, 0.555, 0.319, 0.067, 0.071, 0.070, 0.049, 0.010),
    "post": (0.838, 0.635, 0.525, 0.313, 0.149, 0.077, 0.033, 0.014),
}
# Three decimals are known; .01 leaves room for another resampling of the photos.
TOLERANCE = 0.01


@pytest.fixture(scope="module")
def source() -> OpenedSpec:
    layers = [{"name": LAYER, "activation": "pre"}]
    values = {
        "model": {"reference": "demo:squeezenet1_1"},
        "images": {"source": "demo:photos", "held_out": "odd"},
        "layers": layers,
    }
    opened = OpenedSpec(BuildSpec.from_values(values))
    assert len(opened.images.scoring) == len(opened.images.held_out) == 10
    return opened


@pytest.fixture(scope="module")
def layers(source: OpenedSpec) -> dict[Activation, TracedLayer]:
    post = BuildSpec.from_values({**source.spec.model_dump(), "layers": [{"name": LAYER}]})
    passed_on = OpenedSpec(post, images=source.images)
    return {"pre": source.layer(LAYER), "post": passed_on.layer(LAYER)}


def held_out_r(
    source: OpenedSpec, scored: TracedLayer, heard: TracedLayer, criterion: str
) -> NDArray[np.float64]:
    """r of each unit and fraction, of the y of one layer in circuits by scores of another."""
    scores = score_images(
        scored,
        UNITS,
        source.batches(source.images.scoring, 16),
        keep=dict.fromkeys(UNITS, ()),
        criteria=[criterion],
        response="sum_abs",
        block=len(UNITS),
    )
    photos = torch.cat(list(source.batches(source.images.held_out, 16)))
    full = heard.network.output(photos)
    found = []
    for row, unit in enumerate(UNITS):
        masks = nested_masks(scores[criterion].mean[row], FRACTIONS)
        compare = FullResponse(full[:, unit].numpy()).compare
        circuits = circuit_maps(heard, unit, masks, photos).numpy()
        found.append([compare(circuit).pearson or 0.0 for circuit in circuits])
    return np.array(found)


@pytest.mark.parametrize("criterion", BEFORE)
def test_medians_of_r_before_the_relu(source, layers, criterion):
    found = held_out_r(source, layers["pre"], layers["pre"], criterion)
    medians = np.median(np.abs(found), axis=0)
    assert medians[:7] == pytest.approx(BEFORE[criterion], abs=TOLERANCE)


@pytest.mark.parametrize("activation", AFTER)
def test_medians_of_r_of_what_units_pass_on(source, layers, activation):
    found = held_out_r(source, layers[activation], layers["post"], "actgrad")
    assert np.median(found, axis=0) == pytest.approx(AFTER[activation], abs=TOLERANCE)


def test_most_of_what_comes_before_the_relu_is_thrown_away(source, layers):
    photos = torch.cat(list(source.batches(source.images.scoring, 16)))
    output = layers["pre"].network.output(photos)
    assert layers["post"].index.explained == f"after relu, {LAYER}_activation"
    assert float(-output.clamp(max=0).sum() / output.abs().sum()) == pytest.approx(0.924, abs=0.005)
