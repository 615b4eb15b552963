"""Planted circuits are found where they must be, and single ablations are exact."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import spearmanr

from circuit_atlas.jobs.planted import recovery
from circuit_atlas.jobs.planted.__main__ import main, markdown
from circuit_atlas.jobs.planted.networks import NETWORKS, PlantedNetwork, small
from circuit_atlas.jobs.planted.recovery import (
    STEPS,
    ablated_alone,
    ground_truth,
    rank_correlation,
)
from circuit_atlas.jobs.planted.recovery import _computed as computed
from circuit_atlas.storage_schema.errors import SpecError
from tests.jobs.planted.test_networks import every, response, without


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return ground_truth(["actgrad", "magnitude"])


def rows_of(table: pa.Table, criterion: str) -> list[dict[str, object]]:
    return [row for row in table.to_pylist() if row["criterion"] == criterion]


def test_a_score_that_follows_the_images_finds_what_is_planted(table):
    rows = rows_of(table, "actgrad")
    assert [row["network"] for row in rows] == [
        *("disjoint", "disjoint", "overlapping", "overlapping"),
        *("polysemantic", "polysemantic", "polysemantic", "residual"),
        *("branched", "depthwise", "cancelling", "small"),
    ]
    for row in rows[:-2]:
        assert (row["auroc"], row["recovered"], row["exact"]) == (1.0, 1.0, True), row
    assert [row["sub_feature"] for row in rows[4:7]] == [None, 0, 1]
    # Two channels that cancel act, and are taken for what matters.
    assert rows[-2]["auroc"] < 1
    assert rows[-2]["exact"] is False
    assert rows[-1]["auroc"] is None
    assert rows[-1]["rank_correlation"] > 0.9


def test_large_weights_that_never_matter_fool_the_magnitude(table):
    for row in rows_of(table, "magnitude")[:-1]:
        assert row["auroc"] < 0.5
        assert row["recovered"] == 0
        assert row["exact"] is False


def test_a_trained_ranking_drops_what_cancels():
    (found,) = recovery.recovery(NETWORKS["cancelling"](0), ["learned"], seed=0, steps=STEPS)
    # Of five planted kernels actgrad's circuit holds one.
    assert found.recovered >= 0.6
    assert found.auroc > 0.97


@pytest.fixture(scope="module")
def network() -> PlantedNetwork:
    return small(2)


def test_ablation_of_every_kernel_and_its_rank_correlation(network):
    block, record = computed(network, network.units[0], ["actgrad", "snip"], seed=0, steps=1)
    effects = ablated_alone(block, 0)
    full = response(without(network.module, ()), network.images, 0)
    index = block.layer.index.index
    ordinal, out, column = index.locate(np.arange(index.size), (0,))
    wanted = []
    for c, o, i in zip(ordinal, out, column, strict=True):
        name = index.convolutions[c].name
        less = response(without(network.module, {(name, int(o), int(i))}), network.images, 0)
        wanted.append(float((less - full).abs().mean()))
    np.testing.assert_allclose(effects, wanted, rtol=1e-4, atol=1e-6)
    assert network.reachable == len(wanted) == len(every(network.module)) - 2 * 8
    for each in record.criteria:
        found = rank_correlation(each.scores[0], np.array(wanted))
        assert found == pytest.approx(spearmanr(each.scores[0], wanted).statistic)


def test_auroc_counts_pairs():
    planted = NETWORKS["cancelling"](0)
    (found,) = recovery.recovery(planted, ["snip"], seed=0, steps=1)
    block, record = computed(planted, planted.units[0], ["snip"], seed=0, steps=1)
    index = block.layer.index.index
    scores = record.criteria[0].scores[0]
    ordinal, out, column = index.locate(np.arange(index.size), (0,))
    names = [index.convolutions[c].name for c in ordinal]
    inside = [
        key in planted.units[0].kernels
        for key in zip(names, out.tolist(), column.tolist(), strict=True)
    ]
    pairs = [
        (a > b) + (a == b) / 2
        for a, yes in zip(scores, inside, strict=True)
        for b, no in zip(scores, inside, strict=True)
        if yes and not no
    ]
    assert found.auroc == pytest.approx(np.mean(pairs))
    best = np.argsort(-scores, kind="stable")[: found.planted]
    assert found.recovered == np.mean(np.array(inside)[best])
    assert asdict(found)["exact"] is False


def test_scores_that_are_all_equal_have_no_rank_correlation():
    assert rank_correlation(np.ones(4), np.arange(4.0)) is None
    assert rank_correlation(np.array([1, np.nan, 3]), np.array([5, np.nan, 2.0])) == -1


def test_the_command_prints_both_tables(table, monkeypatch, capsys):
    asked = []

    def given(criteria: object, *, seed: int, steps: int) -> pa.Table:
        asked.append((criteria, seed, steps))
        return table

    monkeypatch.setattr("circuit_atlas.jobs.planted.__main__.ground_truth", given)
    assert main(["actgrad", "--seed", "3", "--steps", "5"]) == 0
    assert asked == [(["actgrad"], 3, 5)]
    told = capsys.readouterr().out
    assert told == markdown(table)
    assert "| polysemantic | 1 | 1 | 5 | 1.00, 100% |  |" in told


def test_a_criterion_that_is_none(capsys):
    with pytest.raises(SpecError, match="no criterion 'actgrid': did you mean 'actgrad'"):
        ground_truth(["actgrid"])
    assert main(["actgrid"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
