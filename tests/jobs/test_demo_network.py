"""Known values: real weights, real photos, the numbers that the method is known to reach."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.masks import nested_masks
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec

UNITS = (0, 10, 20, 30, 40, 50)
FRACTIONS = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01)
HELD_OUT_MEDIAN = {
    "actgrad": (0.886, 0.740, 0.626, 0.373, 0.296, 0.174, 0.107),
    "snip": (0.861, 0.717, 0.578, 0.339, 0.361, 0.164, 0.076),
}
SPEC = """
model.reference = "demo:squeezenet1_1"
images = { source = "demo:photos", held_out = "odd" }
layers = [{ name = "features.7.expand3x3" }]
"""


def test_medians_over_six_units_of_r_on_held_out_photos():
    source = OpenedSpec(BuildSpec.from_toml(SPEC))
    layer = source.layer("features.7.expand3x3")
    assert len(source.images.scoring) == len(source.images.held_out) == 10
    scores = score_images(
        layer,
        UNITS,
        source.batches(source.images.scoring, 16),
        keep=dict.fromkeys(UNITS, ()),
        criteria=list(HELD_OUT_MEDIAN),
        response="sum_abs",
        block=len(UNITS),
    )
    photos = torch.cat(list(source.batches(source.images.held_out, 16)))
    full = layer.network.forward(photos)[layer.network.target.name]
    for criterion, wanted in HELD_OUT_MEDIAN.items():
        found = []
        for row, unit in enumerate(UNITS):
            masks = nested_masks(scores[criterion].mean[row], FRACTIONS)
            compare = FullResponse(full[:, unit].numpy()).compare
            circuits = circuit_maps(layer, unit, masks, photos).numpy()
            found.append([abs(compare(circuit).pearson or 0.0) for circuit in circuits])
        # Three decimals are known; .01 leaves room for another resampling of the photos.
        assert np.median(found, axis=0) == pytest.approx(wanted, abs=0.01)
