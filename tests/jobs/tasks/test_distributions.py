"""Responses summed up over chunks, held against all of them at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from circuit_atlas.jobs.tasks.distributions import distributions
from circuit_atlas.storage_schema import responses
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.response_tables import CHUNK, STEPS

IMAGES, UNITS = 50, (2, 5, 7)
SPLITS = {"scoring": range(0, IMAGES, 2), "held_out": range(1, IMAGES, 2)}


@pytest.fixture
def objects(tmp_path: Path) -> Objects:
    return open_store(str(tmp_path))


def stored(objects: Objects, r: np.ndarray) -> list[str]:
    """Chunks of these responses, (images, units), whose images are in no order."""
    order = np.random.default_rng(1).permutation(len(r))
    positions = np.arange(r.size, dtype=np.int32).reshape(r.shape)
    for chunk, images in enumerate(np.array_split(order, 4)):
        rows = CHUNK.from_columns(
            {
                "image": images,
                "responses": r[images].astype(np.float32).tolist(),
                "positions": positions[images].tolist(),
            }
        )
        responses.put_chunk(objects, "a", responses.key_of(UNITS), chunk, CHUNK.to_parquet(rows))
    return list(responses.chunks(objects, "a", responses.key_of(UNITS)).values())


def summed(objects: Objects, r: np.ndarray) -> list[dict[str, object]]:
    top = {"scoring": 6, "held_out": 100}
    table = distributions(objects, stored(objects, r), units=UNITS, images=SPLITS, top=top)
    return table.to_pylist()


def test_chunks_say_what_all_images_do(objects):
    # Of few values, so that images tie.
    r = np.random.default_rng(0).integers(0, 12, (IMAGES, len(UNITS))) / 4
    r[:, 2] = 1.5
    rows = summed(objects, r)
    assert [row["unit"] for row in rows] == list(UNITS)
    for column, row in enumerate(rows):
        values = r[:, column]
        assert row["images"] == IMAGES
        assert row["mean"] == pytest.approx(values.mean())
        assert row["sd"] == pytest.approx(values.std())
        assert (row["low"], row["high"]) == (values.min(), values.max())
        if column < 2:
            expected = np.histogram(values, STEPS)[0]
            assert row["counts"] == expected.tolist()
        assert sum(row["counts"]) == IMAGES
        for split, most in (("scoring", 6), ("held_out", 25)):
            best = sorted(SPLITS[split], key=lambda image: (-values[image], image))[:most]
            assert row[f"{split}_images"] == best
            assert row[f"{split}_responses"] == values[best].tolist()
            assert row[f"{split}_positions"] == [image * len(UNITS) + column for image in best]


def test_an_image_that_is_not_finite_comes_first_and_counts_in_nothing_else(objects):
    r = np.random.default_rng(0).normal(size=(IMAGES, len(UNITS)))
    r[8, 0], r[9, 0], r[:, 1] = np.nan, np.inf, np.nan
    one, none, _ = summed(objects, r)
    assert one["scoring_images"][0] == 8
    assert one["held_out_images"][0] == 9
    assert one["images"] == sum(one["counts"]) == IMAGES - 2
    assert one["mean"] == pytest.approx(r[np.isfinite(r[:, 0]), 0].mean())
    assert (none["images"], none["mean"], none["low"]) == (0, None, None)


def test_images_that_are_in_no_chunk_are_missed(objects):
    chunks = stored(objects, np.zeros((IMAGES, len(UNITS))))
    with pytest.raises(CorruptError, match="in place of 50"):
        distributions(objects, chunks[:3], units=UNITS, images=SPLITS, top={"scoring": 1})
