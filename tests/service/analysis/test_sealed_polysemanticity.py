"""How polysemantic units are as it is stored when their layer is sealed: what each unit says."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.compaction import compact
from tests.service.analysis.planted import SIZE, Planted, plant

IMAGES = 6
GROUPS = {0: (0, 0, 1, 0, 0, 1), 1: (0,) * IMAGES, 3: (0, 0, 1, 1, 2, 2), 4: (0, 1, 2, 3, 4, 5)}


def _planted(n: int) -> Planted:
    rng = np.random.default_rng(n)
    feature = {group: rng.random(SIZE) for group in set(GROUPS[n])}
    tops = np.stack([feature[group] + rng.random(SIZE) for group in GROUPS[n]]).astype(np.float32)
    scores = {"actgrad": tops.mean(0)[None], "random": rng.random((1, SIZE), np.float32)}
    responses = tuple(range(IMAGES + 1, 0, -1))
    return Planted(scores, {"actgrad": tops}, responses=responses, groups=GROUPS[n])


@pytest.fixture
def planted(tmp_path):
    units = {n: _planted(n) for n in (4, 0, 1)}
    return plant(tmp_path / "atlas", units, images=IMAGES + 1, top=IMAGES, dead=[2])


@pytest.fixture
def sealed(planted):
    return seal(planted)


def seal(atlas: Atlas) -> Atlas:
    reader = atlas.reader
    assert compact(reader.objects, reader.header, reader.layer("top"), anew=True) is not None
    return Atlas.open(atlas.location)


def by_unit(table: pa.Table) -> dict[int, float | None]:
    columns = (table[name].to_pylist() for name in ("unit", "polysemanticity"))
    return dict(zip(*columns, strict=True))


def column(atlas: Atlas, **query: object) -> list[float | None]:
    return atlas.layer("top").summary(**query)["polysemanticity"].to_pylist()


def test_it_is_what_each_unit_says(sealed):
    layer = sealed.layer("top")
    expected = {n: layer.unit(n).polysemanticity().value for n in (0, 1, 4)}
    assert 0 < expected[0] < 1
    assert (expected[1], expected[4]) == (0.0, None)  # one group, and groups of one image each
    assert column(sealed) == [expected[0], 0.0, None, None, None, None]
    table = layer.polysemanticity()
    assert by_unit(table) == expected
    rows = sealed.reader.polysemanticity("top", sealed.reader.commits("top"))
    assert rows.to_pylist() == [
        {"unit": n, "criterion": "actgrad", "polysemanticity": value}
        for n, value in sorted(expected.items())
    ]


def test_a_criterion_without_scores_of_single_images_has_none(sealed):
    assert column(sealed, criterion="random") == [None] * 6


def test_units_that_are_not_sealed_have_none(planted):
    assert column(planted) == [None] * 6


def test_a_table_that_is_given_stands_in_its_place(planted):
    layer = planted.layer("top")
    given = layer.polysemanticity(keep=0.5)
    seal(planted)
    found = dict(enumerate(column(planted, polysemanticity=given)))
    assert {n: found[n] for n in (0, 1, 4)} == by_unit(given)
    assert found[0] != column(planted)[0]
