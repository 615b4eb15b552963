"""A row a unit, from tables with known numbers."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.storage_schema.errors import QueryError
from tests.service.analysis.planted import FRACTIONS, SIZE, Planted, plant, random_scores

# r at fractions 1, .5, .2, .1; held out, zero ablation. Unit 3 rises above .9 once more.
R = {
    0: (1.0, 0.95, 0.7, 0.2),
    1: (1.0, 0.9, 0.9, None),
    3: (1.0, 0.5, 0.93, 0.4),
    4: (0.8, None, -0.6, 0.1),
}


def _planted(n: int) -> Planted:
    scores = random_scores(n)
    tops = np.stack([scores[0]] * 3)
    return Planted(
        {"actgrad": scores, "random": scores},
        {"actgrad": tops},
        responses=(9.0 + n, 4.0, 2.0, 5.0),
        r={"actgrad": R[n], "random": (1.0, 0.0, 0.0, 0.0)},
        groups=(0, 1, 0) if n == 3 else (0, 0, 0),
        silhouette=0.5 if n == 3 else None,
    )


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted") / "atlas"
    return plant(folder, {n: _planted(n) for n in (4, 0, 1, 3)}, dead=[2])


def test_each_unit_has_a_row_with_its_smallest_circuit(planted):
    rows = planted.layer("top").summary()
    assert rows["unit"].to_pylist() == [0, 1, 2, 3, 4, 5]
    assert rows["state"].to_pylist() == ["done", "done", "dead", "done", "done", "planned"]
    assert rows["level"].to_pylist() == [1, 2, None, 2, None, None]
    assert rows["fraction"].to_pylist() == [0.5, 0.2, None, 0.2, None, None]
    half, fifth = round(0.5 * SIZE), round(0.2 * SIZE)
    assert rows["kernels"].to_pylist() == [half, fifth, None, fifth, None, None]
    expected = [None if n not in R else list(R[n]) for n in range(6)]
    assert rows["r"].to_pylist() == expected
    assert rows["groups"].to_pylist() == [1, 1, None, 2, 1, None]
    assert rows["silhouette"].to_pylist() == [None, None, None, 0.5, None, None]
    assert rows["polysemanticity"].to_pylist() == [None] * 6
    assert rows.to_arrow().slice(3, 1).drop_columns(
        ["r", "silhouette", "polysemanticity"]
    ).to_pylist() == [
        {
            "unit": 3,
            "name": "3",
            "unit_label": None,
            "state": "done",
            "reachable_kernels": SIZE,
            "level": 2,
            "fraction": 0.2,
            "kernels": fifth,
            "groups": 2,
            "image": 0,
            "response": 12.0,
            "maximum": 6.0,
            "position_y": 1,
            "position_x": 2,
            "box_top": 0,
            "box_left": 0,
            "box_bottom": 5,
            "box_right": 5,
            "error": None,
        }
    ]
    assert rows["image"].to_pylist() == [0, 0, None, 0, 0, None]


def test_criterion_ablation_split_and_threshold_choose_the_rows(planted):
    layer = planted.layer("top")
    assert layer.summary(threshold=0.95)["level"].to_pylist()[:2] == [1, 0]
    scoring = layer.summary(split="scoring")["r"].to_pylist()[0]
    assert scoring == pytest.approx([0.875, 0.825, 0.575, 0.075])
    assert layer.summary(ablation="mean")["r"].to_pylist()[0][0] == 0.75
    other = layer.summary(criterion="random")
    assert other["level"].to_pylist() == [0, 0, None, 0, 0, None]
    assert other["groups"].to_pylist() == [None] * 6  # it has no scores of single images


def test_a_polysemanticity_that_was_computed_is_joined_by_unit(planted):
    computed = pa.table({"unit": pa.array([3, 0], pa.int32()), "polysemanticity": [0.7, 0.0]})
    rows = planted.layer("top").summary(polysemanticity=AtlasTable(computed))
    assert rows["polysemanticity"].to_pylist() == [0.0, None, None, 0.7, None, None]


def test_failed_units_say_why(atlas):
    rows = atlas.layer("conv3").summary()
    assert rows["error"].to_pylist() == [None] * 4 + ["non_finite: NaN in its response to image 1"]
    assert rows["fraction"].to_pylist() == [0.1, None, None, None, None]
    assert rows["image"].to_pylist() == [2, 2, 2, 2, None]


def test_an_old_atlas_has_no_groups(tmp_path):
    units = {n: _planted(n) for n in (0, 3)}
    layer = plant(tmp_path / "atlas", units, schema=1).layer("top")
    assert layer.summary()["groups"].to_pylist() == [None] * 6
    assert layer.summary()["level"].to_pylist()[:4] == [1, None, None, 2]


def test_a_layer_of_which_nothing_is_stored(tmp_path):
    atlas = plant(tmp_path / "atlas", {0: _planted(0)})
    layer = atlas.layer("top")
    commit = tmp_path / "atlas" / "layers" / "top" / "commits" / "0.json"
    commit.unlink()
    assert layer.summary()["state"].to_pylist() == ["planned"] * 6
    assert layer.distribution()["units"].to_pylist() == [0] * 4
    assert layer.distribution()["median"].to_pylist() == [None] * 4
    assert layer.similarity().iou.shape == (0, 0)
    assert layer.uses("wide").num_rows == 0


def test_how_r_is_spread_at_each_level(planted):
    table = planted.layer("top").distribution()
    assert table["fraction"].to_pylist() == list(FRACTIONS)
    assert table["units"].to_pylist() == [4] * 4
    assert table["undefined"].to_pylist() == [0, 1, 0, 1]
    # An r that is undefined is planted where the circuit never fires and the network does.
    assert table["silent"].to_pylist() == [0, 1, 0, 1]
    assert table["reached"].to_pylist() == [3, 2, 2, 0]
    assert table["smallest"].to_pylist() == [0, 1, 2, 0]
    columns = np.array([[v or 0.0 for v in values] for values in R.values()])
    np.testing.assert_allclose(table["median"].to_numpy(), np.median(columns, axis=0))
    np.testing.assert_allclose(table["low"].to_numpy(), np.quantile(columns, 0.1, axis=0))
    np.testing.assert_allclose(table["high"].to_numpy(), np.quantile(columns, 0.9, axis=0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "actgrap"}, "no criterion 'actgrap': did you mean 'actgrad'"),
        ({"ablation": "zeros"}, "no ablation 'zeros': did you mean 'zero'"),
        ({"split": "test"}, "no split 'test': the splits are 'held_out' and 'scoring'"),
        ({"threshold": 2}, "threshold=2 is no r: give a number from -1 to 1"),
        ({"threshold": float("nan")}, "threshold=nan is no r"),
    ],
)
def test_questions_without_an_answer(planted, arguments, message):
    with pytest.raises(QueryError, match=message):
        planted.layer("top").summary(**arguments)
    with pytest.raises(QueryError, match=message):
        planted.layer("top").distribution(**arguments)
