"""A whole build of a network with a unit planted to be polysemantic: two paths that share no
kernel, one for red pictures and one for blue."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.circuits.selectivity import GroupedImages, group_top_images
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.grouping import GroupLabels, group_images
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.quantise import dequantise, quantise
from circuit_atlas.storage_schema.reader import Reader
from tests.jobs.builds import lay_out

MODEL = '''
import torch
from torch import nn

def network():
    """Unit 0 answers to red and to blue, unit 1 to green."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 1), nn.ReLU(),
        nn.Conv2d(6, 2, 3, padding=1),
    )
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(1e-3 * torch.randn(parameter.shape, generator=generator))
        for path, colour, unit in ((0, 0, 0), (1, 2, 0), (2, 1, 1)):
            model[0].weight[path, colour] = 0.3
            model[0].bias[path] = -0.5
            model[2].weight[path, path] = 1.0
            model[4].weight[unit, path] = 0.3
    return model
'''
RED, BLUE = {("0", 0, 0), ("2", 0, 0), ("4", 0, 0)}, {("0", 1, 2), ("2", 1, 1), ("4", 0, 1)}


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """The atlas: six red pictures, ids 0 to 5, and six blue ones, 6 to 11, with green in all."""
    folder = tmp_path_factory.mktemp("contrast")
    (folder / "two_paths.py").write_text(MODEL)
    pictures = folder / "pictures"
    pictures.mkdir()
    generator = np.random.default_rng(0)
    for n in range(12):
        pixels = np.zeros((12, 12, 3), dtype=np.uint8)
        pixels[:, :, 0 if n < 6 else 2] = generator.integers(96, 256, (12, 12))
        pixels[:, :, 1] = generator.integers(96, 256, (12, 12))
        Image.fromarray(pixels).save(pictures / f"{n:02}.png")
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "two_paths:network"},
            "preprocessing": {"resize": [12, 12], "mean": [0, 0, 0], "std": [1, 1, 1]},
            "images": {"source": str(pictures), "held_out": 0},
            "layers": [{"name": "4"}],
            "circuits": {
                "criteria": ["actgrad", "snip", "random"],
                "fractions": [1, 0.5, 0.05],
                "ablation": ["zero", "mean"],
                "top_images": 12,
            },
            "run": {"store": str(folder / "atlas")},
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        lay_out(spec)
        units = tuple(UnitKey(spec.model.reference, "4", unit) for unit in (0, 1))
        receipts = CircuitJob(spec, 1).open().run(Task("4", units))
    assert [receipt.message for receipt in receipts] == [None, None]
    return Reader(spec.run.store)


@pytest.mark.parametrize("criterion", ["actgrad", "snip"])
def test_two_kinds_of_pictures_are_two_groups(reader, criterion):
    rows = reader.groups(reader.commits("4")[0]).to_pylist()
    group = {row["image"]: row["group"] for row in rows if row["criterion"] == criterion}
    red, blue = {group[n] for n in range(6)}, {group[n] for n in range(6, 12)}
    assert (len(red), len(blue)) == (1, 1)
    assert red != blue
    assert {row["groups"] for row in rows} == {2}
    assert min(row["silhouette"] for row in rows) > 0.5


def test_a_groups_circuit_is_its_own_path(reader):
    """From the stored scores, as a client makes it."""
    commit = reader.commits("4")[0]
    ranks = {row["image"]: row["rank"] for row in reader.responses(commit).to_pylist()}
    scores = reader.image_scores(commit, "actgrad")
    index, rows = reader.layer("4").index, reader.layer("4").unit(0).rows
    for colour, path in ((range(6), RED), (range(6, 12), BLUE)):
        mean = scores[[ranks[n] for n in colour]].mean(0)
        ordinal, out, into = index.locate(np.flatnonzero(keep_best(mean, 3)), rows)
        names = [index.convolutions[n].name for n in ordinal]
        assert set(zip(names, out.tolist(), into.tolist(), strict=True)) == path


@pytest.mark.parametrize("criterion", ["actgrad", "snip"])
@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_a_groups_circuit_keeps_its_own_pictures_and_drops_the_others(reader, criterion, ablation):
    rows = [
        row
        for row in reader.selectivity(reader.commits("4")[0]).to_pylist()
        if (row["criterion"], row["ablation"]) == (criterion, ablation)
    ]
    assert len(rows) == 2 * 3 * 12, "groups x levels x images"
    responses = {
        row["image"]: row["response"]
        for row in reader.responses(reader.commits("4")[0]).to_pylist()
    }
    for row in rows:
        assert row["response_full"] == pytest.approx(responses[row["image"]])
        assert row["kernels"] == {1.0: 60, 0.5: 30, 0.05: 3}[row["fraction"]]
        assert row["fraction"] == 0.5 or row["acting"] == row["kernels"], "three are a path"
        kept = row["response"] / row["response_full"]
        if row["fraction"] == 1:
            assert kept == 1
        elif row["fraction"] == 0.05 and ablation == "zero":
            # All else in the network is a thousandth.
            assert kept > 0.97 if row["inside"] else kept < 0.05
    inside = {(row["group"], row["image"]) for row in rows if row["inside"]}
    assert len(inside) == 12


def test_rows_name_images_by_their_ids_and_not_by_their_places(reader):
    """Ids 10 to 15 have indices 0 to 5; indices 3 and 1 are one group, 5 the other."""
    header = reader.header
    groups = GroupLabels(np.array([0, 0, 1]), 2, 0.5, 0.01)
    masks = np.ones((len(header.fractions), 4), dtype=np.bool_)
    full = np.arange(1.0, 4.0, dtype=np.float32)[:, None, None]
    run = CircuitRun(0, "zero", masks, full, [1, 3, 5])
    run.maps[:] = -2 * full
    grouped = GroupedImages("actgrad", [3, 1, 5], groups, ((0, run),))
    images = range(10, 16)
    assert [(row.image, row.group) for row in grouped.group_rows(images)] == [
        (13, 0), (11, 0), (15, 1),
    ]  # fmt: skip
    rows = list(grouped.contrast_rows(images, header=header, response="sum_abs"))
    assert [(r.image, r.inside, r.response, r.full) for r in rows[:3]] == [
        (11, True, 2, 1), (13, True, 4, 2), (15, False, 6, 3),
    ]  # fmt: skip


def test_groups_and_their_circuits_are_those_of_the_scores_as_stored(reader):
    """Two groups of images by two sets of kernels. In each, a kernel has a score larger than that
    of the one before it by less than what two codes are apart: as stored they tie, and the first
    is kept."""
    generator = np.random.default_rng(0)
    scores = 0.01 * generator.random((8, 40), dtype=np.float32)
    scores[:4, 10:20] += 1 + generator.random((4, 10), dtype=np.float32)
    scores[4:, 20:30] += 1 + generator.random((4, 10), dtype=np.float32)
    for rows, kernel in ((slice(0, 4), 10), (slice(4, 8), 20)):
        scores[rows, kernel] = 4
        scores[rows, kernel + 1 : kernel + 3] = [3, 3 * (1 + 1e-5)]
    stored = dequantise(*quantise(scores))
    assert (stored[:4, 11] == stored[:4, 12]).all()
    assert (scores[:4, 11] < scores[:4, 12]).all()
    full = np.zeros((8, 2, 2), dtype=np.float32)
    found = group_top_images(
        "actgrad", scores, number=0, full=full, top=range(8), header=reader.header
    )
    as_read = group_images(stored)
    assert found.groups.labels.tolist() == as_read.labels.tolist() == [0] * 4 + [1] * 4
    # A client that groups the stored scores finds this very number.
    assert found.groups.silhouette == as_read.silhouette != group_images(scores).silhouette
    assert reader.header.fractions == (1.0, 0.5, 0.05)
    for group, run in found.runs:
        first = 10 + 10 * group
        assert np.flatnonzero(run.masks[2]).tolist() == [first, first + 1]
        mean = stored[as_read.labels == group].astype(np.float64).mean(axis=0)
        np.testing.assert_array_equal(run.masks[1], keep_best(mean, 20))


def test_one_group_has_no_contrast(reader):
    commit = reader.commits("4")[1]
    rows = reader.groups(commit).to_pylist()
    assert {(row["groups"], row["group"], row["silhouette"]) for row in rows} == {(1, 0, None)}
    assert reader.selectivity(commit).num_rows == 0


def test_what_excites_has_a_positive_contribution(reader):
    commit = reader.commits("4")[0]
    contribution, score = reader.contribution(commit), reader.scores(commit, "actgrad")[0]
    reached = ~np.isnan(score)
    np.testing.assert_array_equal(np.isfinite(contribution), reached)
    assert (np.abs(contribution[reached]) <= score[reached] * (1 + 1e-5)).all()
    index, rows = reader.layer("4").index, reader.layer("4").unit(0).rows
    ordinal, out, into = index.locate(np.arange(index.size), rows)
    path = [
        (index.convolutions[n].name, o, i) in RED | BLUE
        for n, o, i in zip(ordinal, out.tolist(), into.tolist(), strict=True)
    ]
    assert (contribution[path] > 0.5 * score[path]).all()


def test_response_maps_are_those_of_the_top_images(reader):
    commit = reader.commits("4")[0]
    maps = reader.response_maps(commit)
    rows = sorted(reader.responses(commit).to_pylist(), key=lambda row: row["rank"])
    assert maps.shape == (12, 12, 12)
    np.testing.assert_allclose(
        np.abs(maps).sum((1, 2)), [row["response"] for row in rows], rtol=1e-5
    )
    for response_map, row in zip(maps, rows, strict=True):
        assert response_map[row["position_y"], row["position_x"]] == response_map.max()
