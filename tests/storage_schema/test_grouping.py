"""Groups of images: planted ones are found, and where there are none there is one."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import silhouette_score

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.grouping import distances, group_images, silhouette


def planted(
    *sizes: int, seed: int = 0, kernels: int = 800, spread: float = 0.3
) -> NDArray[np.float32]:
    """Scores of groups of so many images, one group after the other.

    A group has a profile over the kernels, half of it common to all groups. Its images depart from
    it by factors that many kernels share, and respond more or less strongly.
    """
    generator = np.random.default_rng(seed)
    common = generator.gamma(0.5, size=kernels)
    factors = generator.normal(size=(5, kernels)) / np.sqrt(5)
    rows = []
    for size in sizes:
        profile = common + generator.gamma(0.5, size=kernels)
        for _ in range(size):
            apart = generator.normal(size=5) @ factors + 0.5 * generator.normal(size=kernels)
            rows.append(profile * np.exp(spread * apart + 0.5 * generator.normal()))
    return np.array(rows, dtype=np.float32)


def blocks(*sizes: int) -> list[int]:
    """The labels of `planted`, where sizes do not ascend."""
    return [group for group, size in enumerate(sizes) for _ in range(size)]


@pytest.mark.parametrize(
    "sizes", [(5, 5), (7, 3), (4, 3, 3), (10, 10), (8, 7, 5), (20, 12, 8), (30, 10)]
)
def test_planted_groups_are_found(sizes):
    found = [group_images(planted(*sizes, seed=seed)) for seed in range(10)]
    right = [groups.labels.tolist() == blocks(*sizes) for groups in found]
    # Of 10 at least 8: a draw of profiles can lie close together.
    assert sum(right) >= 8
    for groups in found:
        if groups.count > 1:
            assert groups.silhouette > 0.25
            assert groups.chance <= 0.05


@pytest.mark.parametrize("count", [5, 6])
def test_up_to_six_groups_are_looked_for(count):
    """Images that share no kernel with those of other groups."""
    scores = np.kron(np.eye(count), np.ones((3, 20))).astype(np.float32)
    scores += 0.01 * np.random.default_rng(0).random(scores.shape, dtype=np.float32)
    found = group_images(scores)
    assert found.count == count
    assert found.labels.tolist() == blocks(*[3] * count)
    assert found.silhouette > 0.9


def test_no_more_than_six_groups_are_looked_for():
    scores = np.kron(np.eye(8), np.ones((2, 20))).astype(np.float32)
    assert group_images(scores).count <= 6
    assert group_images(scores, groups=8).count == 8


@pytest.mark.parametrize(
    ("sizes", "seed", "spread"), [((2, 2), 2, 0.3), ((3, 2), 3, 0.8), ((4, 2), 3, 0.8)]
)
def test_chance_is_the_share_of_samples_of_one_group_that_are_split_as_well(sizes, seed, spread):
    """Over every number of groups from two on that leaves two images together: by other libraries,
    from the same draws."""
    scores = planted(*sizes, seed=seed, spread=spread)
    count = len(scores)
    roots = np.sqrt(scores.astype(np.float64))
    points = roots / np.linalg.norm(roots, axis=1, keepdims=True)

    def best(of: NDArray[np.float64]) -> float:
        merged = linkage(of, "ward")
        split = (fcluster(merged, number, "maxclust") for number in range(2, count))
        return max(silhouette_score(of, labels) for labels in split)

    # Least variance first, as the module has its axes.
    deviations = np.linalg.svd(points - points.mean(0), compute_uv=False)[::-1] / np.sqrt(count)
    generator = np.random.default_rng(0)
    as_well, samples, own = 0, 0, best(points)
    while as_well < 10 and samples < 99:
        as_well += best(generator.normal(size=(count, count)) * deviations) >= own
        samples += 1
    wanted = as_well / samples if as_well == 10 else (1 + as_well) / (1 + samples)
    assert group_images(scores).chance == pytest.approx(wanted)


def test_a_faint_gap_shows_in_many_images():
    faint = [group_images(planted(40, 20, seed=seed, spread=0.8)) for seed in range(5)]
    assert [groups.count for groups in faint] == [2] * 5
    assert min(groups.silhouette for groups in faint) < 0.25
    few = [group_images(planted(4, 2, seed=seed, spread=0.8)) for seed in range(5)]
    assert [groups.count for groups in few] == [1] * 5


@pytest.mark.parametrize("count", [5, 10, 20, 40])
@pytest.mark.parametrize("spread", [0.1, 0.3, 0.8])
def test_one_group_is_found_as_one(count, spread):
    several = [
        seed
        for seed in range(20)
        if group_images(planted(count, seed=seed, spread=spread)).count > 1
    ]
    # One in twenty by the level of the test; three of twenty come up in less than 2 of 100 runs.
    assert len(several) <= 2


def test_images_that_differ_by_degrees_are_one_group():
    """From one profile to another without a gap: two ends, and no two groups."""
    generator = np.random.default_rng(0)
    ends = generator.gamma(0.5, size=(2, 800))
    share = np.linspace(0, 1, 20)[:, None]
    assert group_images(share * ends[0] + (1 - share) * ends[1]).count == 1


def test_how_strongly_an_image_responds_plays_no_part():
    scores = planted(5, 5)
    strength = np.array([1, 100, 1, 0.01, 1, 5, 1, 1000, 0.1, 1], dtype=np.float32)[:, None]
    np.testing.assert_array_equal(
        group_images(scores * strength).labels, group_images(scores).labels
    )


def test_the_same_scores_give_the_same_groups():
    scores = planted(6, 4)
    first, second = group_images(scores), group_images(scores.copy())
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.silhouette, first.chance) == (second.silhouette, second.chance)


def test_the_largest_group_comes_first_and_ties_by_image():
    scores = planted(3, 7)
    assert group_images(scores).labels.tolist() == [1] * 3 + [0] * 7
    assert group_images(planted(5, 5)[::-1]).labels.tolist() == blocks(5, 5)


def test_kernels_out_of_reach_play_no_part():
    scores = planted(5, 5)
    padded = np.insert(scores, [0, 400], np.nan, axis=1)
    np.testing.assert_array_equal(group_images(padded).labels, blocks(5, 5))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_few_images_are_one_group(count):
    assert group_images(planted(*[1] * count)).count == 1


def test_images_without_any_score():
    assert group_images(np.zeros((6, 10), dtype=np.float32)).count == 1
    scores = planted(5, 5)
    scores[3] = 0
    assert len(group_images(scores).labels) == 10


@pytest.mark.parametrize("groups", range(1, 11))
def test_as_many_groups_as_asked_for(groups):
    found = group_images(planted(5, 5), groups=groups)
    assert found.count == groups
    assert np.bincount(found.labels).tolist() == sorted(np.bincount(found.labels), reverse=True)
    assert sorted(set(found.labels)) == list(range(groups))
    assert found.chance is None
    if groups == 2:
        assert found.labels.tolist() == blocks(5, 5)


@pytest.mark.parametrize("groups", [0, -1, 11])
def test_a_number_that_cannot_be(groups):
    with pytest.raises(QueryError, match=rf"groups={groups} is out of range.*give 1 to 10$"):
        group_images(planted(5, 5), groups=groups)


@pytest.mark.parametrize("labels", [[0, 0, 0, 1, 1, 1], [0, 1, 1, 2, 2, 2], [0, 1, 0, 1, 0, 2]])
def test_the_silhouette_is_the_published_one(labels):
    """Held against the formula written out, and against another library's."""
    points = np.random.default_rng(1).normal(size=(6, 3))
    apart = distances(points)
    worth = []
    for n, own in enumerate(labels):
        others = [m for m in range(6) if m != n]
        of = {
            group: [np.linalg.norm(points[n] - points[m]) for m in others if labels[m] == group]
            for group in set(labels)
        }
        if not of[own]:
            worth.append(0.0)
            continue
        a = np.mean(of[own])
        b = min(np.mean(found) for group, found in of.items() if group != own)
        worth.append((b - a) / max(a, b))
    found = silhouette(apart, np.array(labels))
    assert found == pytest.approx(np.mean(worth), abs=1e-12)
    assert found == pytest.approx(silhouette_score(points, labels), abs=1e-12)


def test_grouping_loads_no_torch():
    code = (
        "import sys; import numpy as np\n"
        "from circuit_atlas.storage_schema.grouping import group_images\n"
        "assert 'scipy' not in sys.modules\n"
        "group_images(np.eye(8)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_images_seen_through_the_same_kernels_are_one_group_however_tight():
    """Two groups a thousandth apart: well separated, and no two sub-features."""
    scores = np.ones((10, 100), dtype=np.float32)
    scores[:5, 0] += 0.1
    scores += 1e-4 * np.random.default_rng(0).random(scores.shape, dtype=np.float32)
    assert group_images(scores, groups=2).silhouette > 0.9
    found = group_images(scores)
    assert found.count == 1
    assert found.rejected.apart < 0.2
    assert (found.rejected.count, found.rejected.chance) == (2, None)


def test_a_split_that_chance_makes_as_well_is_told():
    found = group_images(planted(10))
    assert found.count == 1
    assert found.rejected.apart >= 0.2
    assert found.rejected.chance == found.chance > 0.05
    again = group_images(planted(10), groups=found.rejected.count)
    assert found.rejected.silhouette == again.silhouette
    assert group_images(planted(5, 5)).rejected is None
