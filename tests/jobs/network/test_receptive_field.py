"""Receptive fields, held against changing each pixel and looking."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.network.receptive_field import receptive_fields
from tests.jobs.axis import open_double
from tests.oracles.networks import NAMED
from tests.oracles.receptive import receptive_box


@pytest.mark.parametrize("name", NAMED)
def test_boxes(name):
    network = NAMED[name]()
    # The last target of most networks is pointwise and sees no more than the one before it.
    target = network.targets[-2]
    layer = open_double(network, target)
    (top, bottom), (left, right) = receptive_fields(layer.network)
    height, width = layer.index.height, layer.index.width
    for y, x in {(height // 2, width // 2), (height - 1, 0)}:
        wanted = receptive_box(network.module, network.size, target, (y, x))
        assert (top[y], left[x], bottom[y] + 1, right[x] + 1) == wanted
