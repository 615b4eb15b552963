"""Which images a unit has: all of a small set, and a sample of a large one."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.spec.circuits import CircuitsSpec
from circuit_atlas.jobs.tasks.sample import decided
from circuit_atlas.storage_schema.sample import Drawn, Sample, images_of_unit

SOME = {"top": 20, "random": 30}


@pytest.mark.parametrize(
    ("circuits", "images", "expected"),
    [
        ({}, 1000, None),
        ({}, 1001, Sample(Drawn(64, 64), Drawn(64, 64))),
        ({"top_images": 100}, 1001, Sample(Drawn(100, 64), Drawn(100, 64))),
        ({"scoring": "all"}, 1001, Sample(None, Drawn(64, 64))),
        ({"scoring": "all", "held_out": "all"}, 10**6, None),
        ({"scoring": SOME}, 1000, Sample(Drawn(20, 30), None)),
        ({"held_out": SOME}, 1001, Sample(Drawn(64, 64), Drawn(20, 30))),
    ],
)
def test_what_is_decided(circuits, images, expected):
    assert decided(CircuitsSpec.model_validate(circuits), images=images) == expected


def test_how_many_images_a_unit_has():
    assert images_of_unit(None, scoring=70, held_out=30) == 100
    sample = Sample(Drawn(20, 30), None)
    assert images_of_unit(sample, scoring=70, held_out=30) == 80
    assert images_of_unit(sample, scoring=40, held_out=30) == 70
