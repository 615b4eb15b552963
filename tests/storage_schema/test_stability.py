"""Circuits of image sets drawn anew, held against one sort a set in float64."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from circuit_atlas.storage_schema.stability import DRAWS, bootstrap, memberships

OUT_OF_REACH = (2, 7)


def some_scores(images: int, kernels: int, *, seed: int = 0) -> NDArray[np.float32]:
    scores = np.random.default_rng(seed).gamma(0.3, size=(images, kernels)).astype(np.float32)
    scores[:, OUT_OF_REACH] = np.nan
    return scores


def slow(scores: NDArray[np.float32], sets: NDArray[np.integer], kept: int) -> list[int]:
    """How many sets' circuits hold each kernel: a sort a set, by score and then position."""
    counts = [0] * scores.shape[1]
    for row in sets:
        if row.any():
            means = (row[:, None] * scores.astype(np.float64)).sum(0) / row.sum()
            reach = [n for n, mean in enumerate(means) if not np.isnan(mean)]
            for n in sorted(reach, key=lambda n: (-means[n], n))[:kept]:
                counts[n] += 1
    return counts


@pytest.mark.parametrize("images", [2, 5, 40])
def test_each_set_keeps_the_best_kernels_of_its_mean_score(images):
    scores = some_scores(images, 60)
    sets = np.random.default_rng(1).integers(0, 3, size=(70, images))
    kept = [58, 20, 6, 1]
    found = memberships(scores, sets, kept)
    assert found.tolist() == [slow(scores, sets, count) for count in kept]


def test_equal_scores_go_to_the_kernels_that_come_first():
    scores = np.array([[0, 3, np.nan, 3, 3, 0], [0, 3, np.nan, 3, 3, 0]], np.float32)
    sets = np.array([[1, 0], [1, 1], [0, 0], [0, 2]])
    # The third set holds no image, and so its circuit no kernel.
    assert memberships(scores, sets, [2, 4]).tolist() == [[0, 3, 0, 3, 0, 0], [3, 3, 0, 3, 3, 0]]


def test_a_draw_that_scores_far_lower_than_the_one_before_it_counts_as_well():
    scores = some_scores(2, 50)
    scores[1] /= 1000
    sets = np.array([[1, 0], [0, 1], [1, 0], [0, 1]])
    assert memberships(scores, sets, [9])[0].tolist() == slow(scores, sets, 9)


def test_a_bootstrap_draws_as_many_images_as_there_are():
    scores = some_scores(6, 40)
    found = bootstrap(scores, (1.0, 0.3), seed=3)
    assert found.dtype == np.uint8
    assert (found[:, OUT_OF_REACH] == 0).all()
    everywhere = np.delete(found[0], OUT_OF_REACH)
    assert (everywhere == DRAWS).all()  # a circuit of all kernels is the same for any images
    assert found[1].sum() == DRAWS * round(0.3 * 38)
    generator = np.random.default_rng([3, 6])
    drawn = np.stack([np.bincount(generator.integers(0, 6, 6), minlength=6) for _ in range(4000)])
    share = np.array(slow(scores, drawn, round(0.3 * 38))) / len(drawn)
    # Two samples of the same share: five standard errors of both.
    apart = 5 * np.sqrt(share * (1 - share) * (1 / DRAWS + 1 / len(drawn))) + 1e-9
    assert (np.abs(found[1] / DRAWS - share) <= apart + 0.02).all()


def test_the_same_seed_draws_the_same_images():
    scores = some_scores(6, 40)
    first, again, other = (bootstrap(scores, (0.3,), seed=seed) for seed in (1, 1, 2))
    assert (first == again).all()
    assert (first != other).any()


def test_an_image_that_is_always_the_same_leaves_nothing_open():
    scores = np.repeat(some_scores(1, 40), 5, axis=0)
    assert set(np.unique(bootstrap(scores, (0.2,), seed=0))) == {0, DRAWS}
