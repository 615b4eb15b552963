"""What a writer stored is what a reader gives."""

from __future__ import annotations

import numpy as np

from circuit_atlas.storage_schema.quantise import RELATIVE_ERROR
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.writer import Writer


def test_what_was_written_is_read(objects, header, layer, images, plan, record):
    written = record(1)
    receipt = Writer(objects, header, layer).commit(written)

    reader = Reader(objects.place)
    commit = reader.commits("features.3")[1]
    assert (receipt.attempt, receipt.size_bytes) == (commit.attempt, commit.size_bytes)
    assert (receipt.key, receipt.state, receipt.compute_s) == (written.key, "done", 1.5)
    assert reader.header == header
    assert reader.layers() == ("features.3",)
    assert reader.layer("features.3") == layer
    assert reader.plan() == plan
    assert reader.images().equals(images)
    assert dict(commit.forms) == {"actgrad": "level", "force": "packed"}
    for criterion in written.criteria:
        np.testing.assert_array_equal(reader.scores(commit, criterion.name), criterion.scores)
        for rung, mask in enumerate(criterion.masks):
            np.testing.assert_array_equal(reader.mask(commit, criterion.name, rung), mask)
        np.testing.assert_array_equal(
            reader.levels(commit, criterion.name), criterion.masks.sum(axis=0)
        )
    given = reader.image_scores(commit, "actgrad")
    np.testing.assert_allclose(
        given, written.criteria[0].image_scores, rtol=RELATIVE_ERROR + 1e-7, atol=0
    )
