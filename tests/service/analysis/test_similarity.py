"""Similarity counts what the circuits themselves count, pair by pair."""

from __future__ import annotations

import math
import threading

import numpy as np
import pytest

from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.similarity import of_masks
from circuit_atlas.storage_schema import bits
from circuit_atlas.storage_schema.errors import QueryError
from tests.service.analysis.planted import Planted, plant, random_scores


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Five units with circuits of two criteria, and a dead one, 2; `force` is not nested."""
    units = {
        n: Planted({"actgrad": random_scores(n), "force": random_scores(n + 10, runs=4)})
        for n in (0, 1, 3, 4, 5)
    }
    return plant(tmp_path_factory.mktemp("planted") / "atlas", units, dead=[2])


def _agrees(layer, *, keep, criterion):
    similarity = layer.similarity(keep=keep, criterion=criterion, by_convolution=True)
    units = similarity.units.tolist()
    circuits = {n: layer.unit(n).circuit(keep=keep, criterion=criterion) for n in units}
    for a, one in enumerate(units):
        for b, other in enumerate(units):
            assert similarity.iou[a, b] == circuits[one].iou(circuits[other])
            rows = circuits[one].iou_by_convolution(circuits[other]).to_pylist()
            for ordinal, row in enumerate(rows):
                value = similarity.iou_of(row["convolution"])[a, b]
                assert value == row["iou"] or (math.isnan(value) and row["iou"] is None)
                assert similarity.shared_by_convolution[ordinal, a, b] == row["shared"]
    return similarity


@pytest.mark.parametrize("criterion", ["actgrad", "force"])
@pytest.mark.parametrize("keep", [1.0, 0.5, 0.1])
def test_all_pairs_agree_with_the_circuits(planted, criterion, keep):
    similarity = _agrees(planted.layer("top"), keep=keep, criterion=criterion)
    assert similarity.units.tolist() == [0, 1, 3, 4, 5]


@pytest.mark.parametrize(("layer", "units"), [("conv2", [0, 1, 4]), ("conv3", [0, 1, 2])])
@pytest.mark.parametrize("keep", [0.5, 0.3])
def test_they_agree_for_directions_and_where_units_reach_different_kernels(
    atlas, layer, units, keep
):
    assert _agrees(atlas.layer(layer), keep=keep, criterion="actgrad").units.tolist() == units


def test_own_rows_are_shared_only_with_units_of_the_same_rows(planted):
    similarity = planted.layer("top").similarity(keep=1, by_convolution=True)
    shared = dict(zip(similarity.convolutions, similarity.shared_by_convolution, strict=True))
    np.testing.assert_array_equal(shared["wide"], 132)
    expected = 9 * np.eye(5, dtype=int)
    expected[3, 4] = expected[4, 3] = 9  # units 4 and 5
    np.testing.assert_array_equal(shared["top"], expected)
    np.testing.assert_array_equal(shared["deep"], expected // 9)


def test_the_nearest_come_first_and_the_unit_itself_is_left_out(planted):
    layer = planted.layer("top")
    similarity = layer.similarity(keep=0.5)
    own = layer.unit(1).circuit(keep=0.5)
    others = {n: own.iou(layer.unit(n).circuit(keep=0.5)) for n in (0, 3, 4, 5)}
    order = sorted(others, key=lambda n: (-others[n], n))
    for table in (similarity.nearest(1), layer.unit(1).similar(keep=0.5)):
        assert table["unit"].to_pylist() == order
        assert table["iou"].to_pylist() == [others[n] for n in order]
        both = [len(own & layer.unit(n).circuit(keep=0.5)) for n in order]
        assert table["shared"].to_pylist() == both
    assert layer.unit(1).similar(keep=0.5)["kernels"].to_pylist() == [71] * 4
    assert layer.unit(1).similar(keep=0.5, limit=2)["unit"].to_pylist() == order[:2]


def test_the_table_has_each_pair_once(planted):
    similarity = planted.layer("top").similarity(keep=0.1, by_convolution=True)
    rows = similarity.table().to_pylist()
    assert [(row["unit"], row["other_unit"]) for row in rows[:4]] == [
        (0, 1),
        (0, 3),
        (0, 4),
        (0, 5),
    ]
    assert len(rows) == 10
    assert rows[-1]["iou"] == similarity.iou[3, 4]
    assert rows[-1]["shared"] / rows[-1]["either"] == similarity.iou[3, 4]
    deep = similarity.table(convolution="deep")
    values = similarity.iou_of("deep")[np.triu_indices(5, k=1)]
    assert deep["iou"].to_pylist() == [None if math.isnan(v) else v for v in values]
    assert None in deep["iou"].to_pylist()


def test_masks_answer_for_what_was_added_so_far(planted):
    layer = planted.layer("top")
    masks = Masks(layer.reader, layer.index, keep=0.5)
    assert masks.missing() == (0, 1, 3, 4, 5)
    masks.add(4)
    assert masks.similar(4).num_rows == 0
    masks.add(0)
    assert masks.similar(0)["unit"].to_pylist() == [4]
    assert masks.similar(5)["unit"].to_pylist()[0] in {0, 4}  # added by being asked for
    assert masks.units == (4, 0, 5)
    assert masks.missing() == (1, 3)
    assert of_masks(masks).units.tolist() == [0, 4, 5]
    for unit in masks.units:
        ids = np.flatnonzero(masks.mask(unit))
        np.testing.assert_array_equal(ids, layer.unit(unit).circuit(keep=0.5).positions)


def test_many_threads_add_each_unit_once(planted):
    layer = planted.layer("top")
    masks = Masks(layer.reader, layer.index, keep=0.5)
    threads = [threading.Thread(target=masks.add_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(masks.units) == [0, 1, 3, 4, 5]
    expected = planted.layer("top").similarity(keep=0.5)
    np.testing.assert_array_equal(of_masks(masks).shared, expected.shared)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda a: a.layer("top").similarity(criterion="actgrap"), "did you mean 'actgrad'"),
        (lambda a: a.layer("top").similarity(keep=0), r"outside \(0, 1\]"),
        (lambda a: a.layer("top").similarity(keep=0.3, criterion="force"), "ranks the kernels"),
        (lambda a: a.layer("top").similarity().iou_of("wide"), "by_convolution=True"),
        (
            lambda a: a.layer("top").similarity(by_convolution=True).iou_of("wild"),
            "no convolution 'wild' on its kernel axis: did you mean 'wide'",
        ),
        (lambda a: a.layer("top").similarity().nearest(2), "unit 2 of top has no circuit"),
        (lambda a: a.layer("top").unit(2).similar(), "unit top/2 is dead"),
        (lambda a: a.layer("top").unit(0).similar(limit=0), "limit=0 is too small: give 1"),
        (lambda a: a.layer("top").unit(0).similar(limit="x"), "limit='x' is no whole number"),
    ],
)
def test_questions_without_an_answer(planted, ask, message):
    with pytest.raises(QueryError, match=message):
        ask(planted)


def test_bits_are_counted_the_same_without_numpys_own_count():
    values = np.random.default_rng(0).integers(0, 2**64, (7, 3), dtype=np.uint64)
    values[0] = [0, 2**64 - 1, 1]
    expected = [[int(value).bit_count() for value in row] for row in values]
    np.testing.assert_array_equal(bits.popcount(values), expected)
    np.testing.assert_array_equal(bits.popcount_by_table(values), expected)
    mask = np.random.default_rng(1).random(150) < 0.5
    np.testing.assert_array_equal(bits.unpack(bits.pack(mask), 150), mask)


def test_more_pairs_than_fit_are_refused_before_they_are_counted(planted, monkeypatch):
    monkeypatch.setattr("circuit_atlas.service.analysis.similarity._MOST_BYTES", 99)
    with pytest.raises(QueryError, match=r"the pairs of 5 units take .* GiB$"):
        planted.layer("top").similarity()
    with pytest.raises(QueryError, match="in 3 convolutions: leave by_convolution out"):
        planted.layer("top").similarity(by_convolution=True)
