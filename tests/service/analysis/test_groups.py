"""Sub-feature groups, stored and found anew, and how polysemantic a unit is, on planted kernels."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.polysemanticity import agreement, best, polysemanticity
from tests.service.analysis.planted import SIZE, Planted, plant

COUNT = 12  # kernels of a planted circuit, of SIZE = 142


def _images(*circuits: np.ndarray, noise: float = 0.0, seed: int = 0) -> np.ndarray:
    """Scores of one image a circuit: its kernels have large ones, the others small or none."""
    rng = np.random.default_rng(seed)
    scores = noise * rng.random((len(circuits), SIZE))
    for row, kernels in zip(scores, circuits, strict=True):
        row[kernels] += 1 + rng.random(len(kernels))
    return scores.astype(np.float32)


A, B = np.arange(COUNT), np.arange(40, 40 + COUNT)
HALF = np.concatenate([A[: COUNT // 2], B[: COUNT // 2]])
KEEP = COUNT / SIZE


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Units whose eight images have two disjoint circuits (0), or one (1)."""
    mean = np.ones((1, SIZE), np.float32)
    two = _images(*[A, A, B, A, A, B, A, B], noise=0.1)
    one = _images(*[A] * 8, noise=0.5, seed=1)
    units = {
        0: Planted(
            {"actgrad": mean, "random": mean},
            {"actgrad": two},
            responses=(9.0, 8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0),
            groups=(0, 0, 1, 0, 0, 1, 0, 1),
            silhouette=0.75,
        ),
        1: Planted({"actgrad": mean, "random": mean}, {"actgrad": one}, responses=(1.0,) * 8),
    }
    folder = tmp_path_factory.mktemp("planted") / "atlas"
    return plant(folder, units, images=9, top=8, dead=[2])


def test_the_stored_groups_have_their_images_and_circuits(planted):
    unit = planted.layer("top").unit(0)
    groups = unit.groups()
    assert (groups.stored, groups.silhouette, groups.chance) == (True, 0.75, None)
    assert [group.images for group in groups] == [(0, 1, 3, 4, 6), (2, 5, 7)]
    assert [len(group) for group in groups] == [5, 3]
    assert set(groups[1].circuit(kernels=COUNT).positions) == set(B)
    assert groups[0].circuit(keep=0.1) == unit.circuit(keep=0.1, images=groups[0].images)
    table = groups.table()
    assert table["group"].to_pylist() == [0, 0, 1, 0, 0, 1, 0, 1]
    assert table["image"].to_pylist() == list(range(8))
    assert repr(groups) == "<Groups of top/0 by actgrad: 2 of 5, 3 images, silhouette 0.75>"
    assert repr(planted.layer("top").unit(1).groups()).endswith("1 of 8 images>")
    assert "<table>" in groups._repr_html_()


def test_groups_found_anew_are_those_that_were_planted(planted):
    unit = planted.layer("top").unit(0)
    found = unit.groups(groups="auto")
    assert not found.stored
    assert found.labels == (0, 0, 1, 0, 0, 1, 0, 1)
    assert found.chance <= 0.05
    assert found.silhouette > 0.5
    assert unit.groups(groups=2).labels == found.labels
    three = unit.groups(groups=3)
    assert len(three) == 3
    assert {len({found.labels[image] for image in group.images}) for group in three} == {1}
    assert len(planted.layer("top").unit(1).groups(groups="auto")) == 1


def test_images_of_one_group_say_which_split_did_not_pass(planted):
    found = planted.layer("top").unit(1).groups(groups="auto").grouping
    assert found.rejected.count >= 2
    assert found.rejected.apart < 0.2 or found.rejected.chance > 0.05
    assert planted.layer("top").unit(0).groups(groups="auto").grouping.rejected is None


def test_groups_follow_the_images_by_rank_whatever_their_ids(atlas):
    groups = atlas.layer("conv3").unit(0).groups()
    assert [group.images for group in groups] == [(2, 3), (0,)]
    assert groups.table()["image"].to_pylist() == [2, 0, 3]
    assert groups.labels == (0, 1, 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"criterion": "random"}, "no criterion with scores of single images 'random': there is"),
        ({"groups": 9}, "unit top/0: groups=9 is out of range: there are 8 images"),
        ({"groups": 0}, "groups=0 is out of range"),
        ({"groups": "many"}, "groups='many' is no whole number"),
    ],
)
def test_groups_that_cannot_be_had(planted, arguments, message):
    with pytest.raises(QueryError, match=message):
        planted.layer("top").unit(0).groups(**arguments)


def test_a_dead_unit_and_an_old_atlas_have_no_groups(planted, tmp_path):
    with pytest.raises(QueryError, match="is dead"):
        planted.layer("top").unit(2).groups()
    mean = np.ones((1, SIZE), np.float32)
    old = {0: Planted({"actgrad": mean}, {"actgrad": _images(A, A, B, B)}, responses=(1.0,) * 4)}
    atlas = plant(tmp_path / "atlas", old, schema=1, images=5, top=4)
    with pytest.raises(QueryError, match="built by an older circuit-atlas and has no groups"):
        atlas.layer("top").unit(0).groups()
    assert atlas.layer("top").unit(0).groups(groups=2).labels == (0, 0, 1, 1)


def test_without_scipy_groups_found_anew_say_what_to_install(planted, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.cluster.hierarchy", None)
    with pytest.raises(QueryError, match=r"needs the package 'scipy'.*circuit-atlas\[analysis\]"):
        planted.layer("top").unit(0).groups(groups=2)
    assert len(planted.layer("top").unit(0).groups()) == 2


@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize(
    ("circuits", "expected"),
    [
        ([A, A, B, B], 1.0),
        ([A, A, A, A], 0.0),
        # Half of the kernels in common: kappa is (1/2 - k/N) / (1 - k/N).
        ([A, A, HALF, HALF], 1 - (0.5 - KEEP) / (1 - KEEP)),
        # A group of one image is compared by the other group's agreement.
        ([A, A, A, HALF], None),
    ],
    ids=["disjoint", "identical", "half", "single"],
)
def test_planted_overlaps_have_the_polysemanticity_of_the_formula(circuits, expected, noise):
    groups = (0, 0, 0, 1) if expected is None else (0, 0, 1, 1)
    expected = 1 - (0.5 - KEEP) / (1 - KEEP) if expected is None else expected
    found = polysemanticity(_images(*circuits, noise=noise), groups, criterion="actgrad", keep=KEEP)
    assert found.value == pytest.approx(expected, abs=1e-12)


def test_it_is_measured_against_what_images_of_one_group_share():
    # Images of either group share half of their kernels; across groups a quarter, or a half.
    def image(*parts: range) -> np.ndarray:
        return np.concatenate([np.asarray(part) for part in parts])

    core, a, b = range(3), range(10, 13), range(20, 23)
    own = [range(30 + 6 * n, 36 + 6 * n) for n in range(4)]
    apart = [image(core, a, own[0]), image(core, a, own[1]),
             image(core, b, own[2]), image(core, b, own[3])]  # fmt: skip
    found = polysemanticity(_images(*apart), (0, 0, 1, 1), criterion="actgrad", keep=KEEP)
    chance = KEEP
    expected = 1 - (0.25 - chance) / (0.5 - chance)
    assert found.value == pytest.approx(expected, abs=1e-12)
    together = [image(core, a, own[n]) for n in range(4)]
    same = polysemanticity(_images(*together), (0, 0, 1, 1), criterion="actgrad", keep=KEEP)
    assert same.value == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("keep", [0.05, 0.2, 0.5])
def test_chance_overlap_of_large_circuits_counts_as_nothing(keep):
    rng = np.random.default_rng(3)
    a, b = rng.random((2, 3000))
    scores = np.stack([a, a, b, b]).astype(np.float32)
    found = polysemanticity(scores, (0, 0, 1, 1), criterion="actgrad", keep=keep)
    # kappa of two random circuits has a standard deviation of about 1 / sqrt(3000) = 0.018.
    assert found.value > 1 - 4 * 0.018


def test_one_group_is_one_feature_and_noise_is_undefined():
    rng = np.random.default_rng(5)
    one = polysemanticity(_images(A, A), (0, 0), criterion="actgrad", keep=KEEP)
    assert (one.value, one.pairs.num_rows) == (0.0, 0)
    single = polysemanticity(_images(A, B), (0, 1), criterion="actgrad", keep=KEEP)
    assert (single.value, single.within) == (None, (None, None))
    # Images of a group with nothing in common: there is no feature to compare.
    four = [rng.permutation(SIZE)[:COUNT] for _ in range(2)]
    apart = [A, B, np.arange(60, 60 + COUNT), np.arange(80, 80 + COUNT)]
    assert polysemanticity(_images(*apart), (0, 0, 1, 1), criterion="x", keep=KEEP).value is None
    assert polysemanticity(_images(*four, *four), (0, 1, 0, 1), criterion="x", keep=KEEP).value == 1


def test_kernels_of_score_zero_are_no_agreement():
    # Ties of zeros are broken by position, which would make the same "circuit" of every image.
    scores = np.zeros((4, SIZE), np.float32)
    scores[:2, 100] = scores[2:, 120] = 1
    assert best(scores, COUNT).sum(axis=1).tolist() == [1, 1, 1, 1]
    found = polysemanticity(scores, (0, 0, 1, 1), criterion="actgrad", keep=KEEP)
    assert found.value == 1.0


def test_the_best_are_those_of_a_full_sort():
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 5, (20, SIZE)).astype(np.float32)
    for row, mask in zip(scores, best(scores, 40), strict=True):
        order = sorted(range(SIZE), key=lambda n: (-row[n], n))[:40]
        assert set(np.flatnonzero(mask)) == {n for n in order if row[n] > 0}


def test_agreement_is_cohens_kappa():
    metrics = pytest.importorskip("sklearn.metrics")
    circuits = np.random.default_rng(1).random((5, 300)) < [[0.1], [0.1], [0.5], [0.9], [0.02]]
    circuits[1, :20] = circuits[0, :20]
    found = agreement(circuits)
    for a in range(5):
        for b in range(5):
            expected = metrics.cohen_kappa_score(circuits[a], circuits[b])
            assert found[a, b] == pytest.approx(expected, abs=1e-12)


def test_units_and_layers_answer_alike(planted):
    layer = planted.layer("top")
    own = layer.unit(0).polysemanticity(keep=KEEP)
    assert own.value == pytest.approx(1.0)
    assert own.pairs.to_pylist()[0]["within"] == pytest.approx(1.0)
    assert own.within == pytest.approx((1.0, 1.0))
    # The groups that are asked for count, not the stored ones.
    assert layer.unit(1).polysemanticity(keep=KEEP).value == 0.0
    assert layer.unit(0).polysemanticity(keep=KEEP, groups=1).value == 0.0
    assert layer.unit(0).polysemanticity(keep=KEEP, groups="auto").value == own.value
    table = layer.polysemanticity(keep=KEEP)
    assert table.to_pylist() == [
        {"unit": 0, "name": "0", "groups": 2, "silhouette": 0.75, "polysemanticity": own.value},
        {"unit": 1, "name": "1", "groups": 1, "silhouette": None, "polysemanticity": 0.0},
    ]
    assert layer.summary(polysemanticity=table)["polysemanticity"].to_pylist()[:2] == [
        own.value,
        0.0,
    ]


@pytest.mark.parametrize("keep", [0, 1, 1.5, float("nan"), "x"])
def test_a_fraction_that_compares_nothing(planted, keep):
    with pytest.raises(QueryError, match="leaves nothing to compare"):
        planted.layer("top").unit(0).polysemanticity(keep=keep)


def test_the_circuit_of_images_does_not_depend_on_their_order(tmp_path):
    """Scores of three images, and the same the other way round, in pairs of kernels: their sums
    differ by what is rounded, and so would the order of the two."""
    rng = np.random.default_rng(0)
    half = np.exp2(rng.uniform(-39, 0, (3, SIZE // 2))).astype(np.float32)
    half[:, 0] = 1  # the largest of each image, so that all have one scale
    tops = np.zeros((3, SIZE), np.float32)
    tops[:, 0 : 2 * (SIZE // 2) : 2], tops[:, 1::2] = half, half[::-1]
    scores = {"actgrad": tops.mean(0)[None]}
    one = Planted(scores, {"actgrad": tops}, responses=(4.0, 3.0, 2.0, 1.0))
    unit = plant(tmp_path, {0: one}).layer("top").unit(0)
    first, second, third = unit.top_images()["image"].to_pylist()
    for kernels in range(1, unit.reachable_kernels):
        circuit = unit.circuit(kernels=kernels, images=[first, second, third])
        for images in ([third, second, first], [second, third, first]):
            assert unit.circuit(kernels=kernels, images=images) == circuit
