"""What groups' circuits preserve and leak, from rows with known sums."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.records import ContrastRow
from tests.service.analysis.planted import SIZE, Planted, plant

# (ablation, group, rung, image) -> r of the circuit and of the whole network. Image 0 is of group
# 0, images 1 and 2 of group 1. Values of r can be negative where r is one position's.
ROWS = {
    ("zero", 0, 1, 0): (-3.0, -4.0),
    ("zero", 0, 1, 1): (1.0, 5.0),
    ("zero", 0, 1, 2): (-0.5, 5.0),
    ("zero", 1, 1, 0): (2.0, -4.0),
    ("zero", 1, 1, 1): (6.0, 5.0),
    ("zero", 1, 1, 2): (5.0, 5.0),
    ("zero", 0, 3, 0): (1.0, 0.0),
    ("zero", 0, 3, 1): (0.0, 5.0),
    ("mean", 0, 1, 0): (4.0, 4.0),
}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    mean = np.ones((1, SIZE), np.float32)
    tops = np.ones((3, SIZE), np.float32)
    rows = [
        ContrastRow(
            criterion="actgrad",
            ablation=ablation,
            group=group,
            rung=rung,
            fraction=(1.0, 0.5, 0.2, 0.1)[rung],
            kernels=round((1.0, 0.5, 0.2, 0.1)[rung] * SIZE),
            image=image,
            inside=(image > 0) == group,
            response=response,
            full=full,
        )
        for (ablation, group, rung, image), (response, full) in ROWS.items()
    ]
    unit = Planted(
        {"actgrad": mean, "random": mean},
        {"actgrad": tops},
        groups=(0, 1, 1),
        responses=(1.0, 1.0, 1.0),
        contrast=rows,
    )
    alone = Planted({"actgrad": mean, "random": mean}, {"actgrad": tops}, responses=(1.0,) * 3)
    return plant(tmp_path_factory.mktemp("planted") / "atlas", {0: unit, 1: alone})


def test_preserved_leaked_and_selectivity_are_ratios_of_sums(planted):
    assert planted.layer("top").unit(0).selectivity().to_pylist() == [
        {
            "group": 0,
            "level": 1,
            "fraction": 0.5,
            "kernels": 71,
            "images": 1,
            "others": 2,
            "preserved": 0.75,
            "leaked": 0.15,
            "selectivity": 0.6,
        },
        {
            "group": 0,
            "level": 3,
            "fraction": 0.1,
            "kernels": 14,
            "images": 1,
            "others": 1,
            "preserved": None,  # the whole network does not respond to it
            "leaked": 0.0,
            "selectivity": None,
        },
        {
            "group": 1,
            "level": 1,
            "fraction": 0.5,
            "kernels": 71,
            "images": 2,
            "others": 1,
            "preserved": 1.1,
            "leaked": 0.5,
            "selectivity": pytest.approx(0.6),
        },
    ]


def test_the_ablation_chooses_the_rows_and_no_others_have_no_share(planted):
    assert planted.layer("top").unit(0).selectivity(ablation="mean").to_pylist() == [
        {
            "group": 0,
            "level": 1,
            "fraction": 0.5,
            "kernels": 71,
            "images": 1,
            "others": 0,
            "preserved": 1.0,
            "leaked": None,
            "selectivity": None,
        }
    ]


def test_one_group_has_nothing_to_compare(planted):
    table = planted.layer("top").unit(1).selectivity()
    assert table.num_rows == 0
    assert table.schema.equals(planted.layer("top").unit(0).selectivity().schema)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "random"}, "no criterion with scores of single images 'random'"),
        ({"ablation": "zeros"}, "no ablation 'zeros': did you mean 'zero'"),
    ],
)
def test_questions_without_an_answer(planted, arguments, message):
    with pytest.raises(QueryError, match=message):
        planted.layer("top").unit(0).selectivity(**arguments)
    with pytest.raises(QueryError, match="is not computed yet"):
        planted.layer("top").unit(3).selectivity()


def test_scores_that_circuits_of_any_groups_hold(tmp_path):
    """Two images by the first half of the kernels, one by the second, in the obvious way."""
    tops = np.zeros((3, SIZE), np.float32)
    tops[:2, : SIZE // 2] = 1
    tops[2, SIZE // 2 :] = 1
    mean = np.ones((1, SIZE), np.float32)
    unit = Planted({"actgrad": mean, "random": mean}, {"actgrad": tops}, responses=(3.0, 2.0, 1.0))
    one = plant(tmp_path / "atlas", {0: unit}).layer("top").unit(0)
    rows = one.score_selectivity({0: (0, 1), 1: (2,)}).to_pylist()
    assert [(row["group"], row["level"]) for row in rows] == [
        (g, n) for g in (0, 1) for n in range(4)
    ]
    for row in rows:
        own, others = (tops[:2], tops[2:]) if row["group"] == 0 else (tops[2:], tops[:2])
        kept = np.argsort(-own.mean(0, dtype=np.float64), kind="stable")[: row["kernels"]]
        assert row["preserved"] == pytest.approx(own[:, kept].sum() / own.sum())
        assert row["leaked"] == pytest.approx(others[:, kept].sum() / others.sum())
        assert row["selectivity"] == pytest.approx(row["preserved"] - row["leaked"])
        assert (row["images"], row["others"]) == ((2, 1) if row["group"] == 0 else (1, 2))
    with pytest.raises(QueryError, match="image 9 is none of the unit's top images"):
        one.score_selectivity({0: (9,)})
    with pytest.raises(QueryError, match="group 0 has no images"):
        one.score_selectivity({0: ()})
