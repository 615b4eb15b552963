"""Comparisons, against slow versions over the maps themselves, in float64."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import bootstrap

from circuit_atlas.service import Atlas, Comparison, QueryError
from circuit_atlas.service.comparison.bootstrap import drawn_images
from tests.service.comparison.planted import CRITERIA, LEVELS, SPLITS, UNITS, Planted, write_planted
from tests.service.conftest import FRACTIONS

DRAWS = 60
ENDS = ("low_units", "high_units")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Planted:
    return write_planted(tmp_path_factory.mktemp("planted") / "atlas")


@pytest.fixture(scope="module")
def found(planted: Planted) -> Comparison:
    return planted.atlas.compare_criteria(draws=DRAWS, seed=3)


def area(r: list[float]) -> float:
    """By the trapezoids between fractions, from the smallest up."""
    logs = np.log10(FRACTIONS)
    total = sum((logs[n] - logs[n + 1]) * (r[n] + r[n + 1]) / 2 for n in range(len(FRACTIONS) - 1))
    return total / (logs[0] - logs[-1])


def areas(planted: Planted, criterion: str, split: str) -> list[float]:
    return [area([planted.r(unit, criterion, split, level) for level in LEVELS]) for unit in UNITS]


def percentile(values: list[float]) -> tuple[float, float]:
    interval = bootstrap(
        (values,),
        np.median,
        n_resamples=DRAWS,
        vectorized=True,
        method="percentile",
        random_state=np.random.default_rng(3),
    ).confidence_interval
    return interval.low, interval.high


def test_medians_and_their_intervals_over_units(planted, found):
    rows = found.table.to_pylist()
    assert len(rows) == len(CRITERIA) * 2 * len(FRACTIONS)
    for row in rows:
        r = [planted.r(u, row["criterion"], row["split"], row["level"]) for u in UNITS]
        assert row["median"] == pytest.approx(np.median(r), abs=1e-9)
        assert row["fraction"] == FRACTIONS[row["level"]]
        if row["level"]:  # of all kernels every r is 1
            assert [row[end] for end in ENDS] == pytest.approx(percentile(r), abs=1e-9)


def test_areas_and_their_intervals_over_units(planted, found):
    for row in found.areas.to_pylist():
        own = areas(planted, row["criterion"], row["split"])
        assert row["area"] == pytest.approx(np.median(own), abs=1e-9)
        assert [row[end] for end in ENDS] == pytest.approx(percentile(own), abs=1e-9)


def test_pairs_are_compared_unit_by_unit(planted, found):
    rows = found.pairs.to_pylist()
    assert [(row["criterion"], row["other_criterion"]) for row in rows[::2]] == [
        ("actgrad", "learned"),
        ("actgrad", "random"),
        ("learned", "random"),
    ]
    for row in rows:
        first, second = (
            areas(planted, row[key], row["split"]) for key in ("criterion", "other_criterion")
        )
        difference = [a - b for a, b in zip(first, second, strict=True)]
        assert row["difference"] == pytest.approx(np.median(difference), abs=1e-9)
        assert [row[end] for end in ENDS] == pytest.approx(percentile(difference), abs=1e-9)
        assert row["better"] == sum(d > 0 for d in difference)
        assert row["worse"] == sum(d < 0 for d in difference)
        assert row["better"] + row["worse"] + row["tied"] == len(UNITS)


def test_intervals_over_images_are_those_of_maps_drawn_anew(planted, found):
    images = [n for n, split in enumerate(SPLITS) if split == "scoring"]
    counts = np.concatenate(list(drawn_images(len(images), draws=DRAWS, seed=3))).astype(int)
    assert counts.sum(axis=1).tolist() == [len(images)] * DRAWS
    medians: dict[tuple[str, int], list[float]] = {}
    of_areas: dict[str, list[float]] = {}
    for drawn in counts:
        chosen = np.repeat(images, drawn)
        for name in CRITERIA:
            r = np.zeros((len(UNITS), len(FRACTIONS)))
            for at, unit in enumerate(UNITS):
                full = planted.full[unit][chosen].astype(np.float64).ravel()
                for level in LEVELS:
                    circuit = planted.maps[unit, name][level, chosen].astype(np.float64).ravel()
                    if np.ptp(circuit):
                        r[at, level] = np.corrcoef(circuit, full)[0, 1]
            for level in LEVELS:
                medians.setdefault((name, level), []).append(float(np.median(r[:, level])))
            of_areas.setdefault(name, []).append(float(np.median([area(list(one)) for one in r])))
    for row in found.table.to_pylist():
        if row["split"] == "scoring":
            drawn_r = medians[row["criterion"], row["level"]]
            ends = row["low_images"], row["high_images"]
            assert ends == pytest.approx(np.percentile(drawn_r, [2.5, 97.5]), abs=1e-6)
    for row in found.areas.to_pylist():
        if row["split"] == "scoring":
            ends = row["low_images"], row["high_images"]
            wanted = np.percentile(of_areas[row["criterion"]], [2.5, 97.5])
            assert ends == pytest.approx(wanted, abs=1e-6)
    held_out = [row for row in found.table.to_pylist() if row["split"] == "held_out"]
    assert all(row["low_images"] is None for row in held_out), "one image cannot be drawn anew"
    assert "No interval over held-out images: there is 1." in found.notes


def test_wins_by_unit_state_ties(planted, found):
    for row in found.table.to_pylist():
        best = tied = 0
        for unit in UNITS:
            r = {name: planted.r(unit, name, row["split"], row["level"]) for name in CRITERIA}
            close = [name for name in CRITERIA if max(r.values()) - r[name] < 1e-4]
            best += close == [row["criterion"]]
            tied += len(close) > 1 and row["criterion"] in close
        assert (row["best"], row["tied"]) == (best, tied)
        if row["level"] == 0:
            assert (row["best"], row["tied"]) == (0, len(UNITS)), "all kernels are the network"


def test_silent_circuits_kernels_that_act_and_cost(found):
    rows = {(row["criterion"], row["split"], row["level"]): row for row in found.table.to_pylist()}
    assert rows["random", "held_out", 2]["silent"] == 1
    assert rows["random", "held_out", 1]["silent"] == 0
    assert rows["learned", "scoring", 2]["silent"] == 0
    # Of the invented records: a kernel less acts at each level, of 44, 22 and 4.
    assert [rows["actgrad", "scoring", level]["acting"] for level in LEVELS] == [1, 21 / 22, 2 / 4]
    cost = found.cost.to_pylist()
    assert [row["median_s"] for row in cost] == [0.5 + 1.5, 10 + 1.5, 0.25 + 1.5]
    assert [row["total_s"] for row in cost] == [4 * 0.5 + 7, 4 * 10 + 7, 4 * 0.25 + 7]
    assert {row["units"] for row in cost} == {len(UNITS)}
    units = found.units.to_pylist()
    assert len(units) == len(UNITS) * len(CRITERIA) * 2 * len(FRACTIONS)
    quiet = [row for row in units if row["silent"]]
    assert {(row["unit"], row["criterion"], row["level"]) for row in quiet} == {(2, "random", 2)}
    assert all(row["pearson"] == 0 for row in quiet)


def test_the_same_seed_gives_the_same_and_another_others(planted, found):
    again = planted.atlas.compare_criteria(draws=DRAWS, seed=3)
    assert all(again.tables[name].equals(table) for name, table in found.tables.items())
    other = planted.atlas.compare_criteria(draws=DRAWS, seed=4)
    assert other.units.equals(found.units)
    assert not other.areas.equals(found.areas)


def test_some_units_and_criteria(planted):
    found = planted.atlas.compare_criteria(
        units=[4, "1"], criteria=["random", "learned"], draws=DRAWS
    )
    assert found.subject.criteria == ("random", "learned")
    assert set(found.units["unit"].to_pylist()) == {1, 4}
    assert found.pairs["better"].to_pylist() == [0, 0]


def test_what_is_missing_is_said(tmp_path):
    one = write_planted(
        tmp_path / "one", units=(1,), sums=False, criteria=("actgrad", "learned")
    ).atlas.compare_criteria()
    assert len(one.notes) == 4
    assert one.notes[0] == "Units left out: 1 not computed yet."
    assert one.notes[1].startswith('There is no random floor: add "random" to the criteria')
    assert one.notes[2].startswith("One unit: no interval over units")
    assert "1 of 1 units were built without sums of single images" in one.notes[3]
    for name in ("table", "areas", "pairs"):
        for end in (*ENDS, "low_images", "high_images"):
            assert one.tables[name][end].null_count == len(one.tables[name])
    assert "–" in one.to_markdown()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"layer": "conv9"}, "has no layer 'conv9'"),
        ({"units": [3]}, "unit conv3/3 is not computed yet"),
        ({"units": [77]}, "has no unit 77"),
        ({"units": []}, "units is empty"),
        ({"criteria": ["actgrad"]}, "criterion 'actgrad' alone cannot be compared: give two or"),
        ({"criteria": ["actgrad", "snap"]}, "has no criterion 'snap'"),
        ({"criteria": []}, "criteria is empty: give one or more, or leave it out for all"),
        ({"criteria": "learned"}, "criteria='learned' is no list: give ['learned']"),
        ({"units": 0}, "units=0 is no list: give [0]"),
        ({"ablation": "mean"}, "has no ablation 'mean'"),
        ({"keep": 0.3}, "keep=0.3 is no stored fraction"),
        ({"draws": 0}, "draws=0 is too small"),
        ({"draws": 10**6}, "draws=1000000 is too large"),
        ({"seed": -1}, "seed=-1 is too small"),
    ],
)
def test_what_cannot_be_compared_is_said_in_a_line(planted, asked, message):
    with pytest.raises(QueryError) as caught:
        planted.atlas.compare_criteria(**asked)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_layer_is_named_where_there_are_several(location):
    atlas = Atlas.open(location)
    with pytest.raises(QueryError, match="has 2 layers: give layer='conv2' or 'conv3'"):
        atlas.compare_criteria()
    found = atlas.compare_criteria(layer="conv3", draws=DRAWS)
    assert found.subject.units == 3
    assert repr(found).startswith("<Comparison of criteria over 3 units of conv3\n  Circuits that ")
    assert "\n  note: Units left out: 1 dead" in repr(found)
    assert found.notes[0] == "Units left out: 1 dead (the response never changes), 1 failed."


def test_too_much_to_draw_is_said(planted, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("circuit_atlas.service.comparison.image_draws.MOST_BYTES", 1000)
    notes = planted.atlas.compare_criteria(draws=DRAWS).notes
    assert any("compare fewer units or criteria" in note for note in notes)


def test_it_is_written_with_its_tables(planted, tmp_path: Path):
    written = planted.atlas.compare_criteria(draws=DRAWS).save(tmp_path / "report")
    names = {path.name for path in written}
    assert {"comparison.html", "comparison.md", "conv3-r-held-out.svg"} <= names
    assert {f"conv3-{name}.csv" for name in ("table", "areas", "pairs", "cost", "units")} <= names
    assert all(path.stat().st_size for path in written)
