"""Certificates, held against every edit of small image sets, and against Clopper-Pearson."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, combinations_with_replacement, product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import beta

from circuit_atlas.storage_schema.certificate import Certified, certify, most_edits
from circuit_atlas.storage_schema.certificate import _tails as tails

KERNELS, KEPT = 7, 2


def share_of(scores: NDArray[np.float64], deletion: float) -> NDArray[np.float64]:
    """g of each kernel in float64: all parts of the images, a sort each."""
    share = np.zeros(scores.shape[1])
    for part in product((False, True), repeat=len(scores)):
        if any(part):
            mean = scores[list(part)].mean(axis=0)
            best = sorted(range(len(mean)), key=lambda n: (-mean[n], n))[:KEPT]
            chance = (1 - deletion) ** sum(part) * deletion ** (len(part) - sum(part))
            share[best] += chance
    return share


def edited(
    scores: NDArray[np.float64], others: NDArray[np.float64], edits: int
) -> Iterator[NDArray[np.float64]]:
    """Every set of images that so many edits can make: some deleted, some of `others` inserted."""
    for deleted in range(edits + 1):
        for left in combinations(range(len(scores)), len(scores) - deleted):
            for inserted in combinations_with_replacement(range(len(others)), edits - deleted):
                yield np.concatenate([scores[list(left)], others[list(inserted)]])


def concentrated(images: int, seed: int, *, ahead: float = 1.0) -> NDArray[np.float64]:
    """Scores in which two kernels are ahead of the others, one of them by little."""
    generator = np.random.default_rng(seed)
    scores = generator.gamma(1.0, size=(images, KERNELS))
    scores[:, 4] += 5
    scores[:, 1] += ahead
    return scores.astype(np.float32).astype(np.float64)


def certificate(scores: NDArray[np.float64], deletion: float, draws: int = 2**12) -> Certified:
    single = scores.astype(np.float32)
    return certify(single, KEPT, deletion=deletion, draws=draws, confidence=0.999, seed=0)


@pytest.mark.parametrize(("seed", "deletion", "most"), [(0, 0.72, 2), (1, 0.65, 1), (2, 0.72, 2)])
def test_no_edit_changes_the_membership_of_a_certified_kernel(seed, deletion, most):
    scores = concentrated(7, seed)
    found = certificate(scores, deletion)
    assert found.exact
    assert most_edits(deletion) == most
    # As bad as can be: images with the whole score in one kernel, and one that scores nothing.
    others = np.concatenate([1e6 * np.eye(KERNELS), np.zeros((1, KERNELS))])
    for edits in range(most + 1):
        held = found.edits >= edits
        for after in edited(scores, others, edits):
            share = share_of(after, deletion)
            assert (np.sign(share - 0.5) == found.decision)[held].all()
    assert found.edits.max() == most  # something is certified, in and out
    assert {-1, 1} <= set(found.decision.tolist())


def test_a_kernel_that_an_edit_can_drop_is_certified_for_fewer():
    scores, deletion = concentrated(7, 3, ahead=0.3), 0.65
    others = 1e6 * np.eye(KERNELS)
    found = certificate(scores, deletion)
    shares = np.stack([share_of(after, deletion) for after in edited(scores, others, 1)])
    dropped = ((shares > 0.5) != (share_of(scores, deletion) > 0.5)).any(axis=0)
    assert dropped.any()
    assert (found.edits[dropped] < 1).all()


def test_insertions_are_the_worst_edits():
    """The theorem's closed form is the least of the bound over deletions and insertions."""
    for deletion in (0.5, 0.65, 0.8, 0.95):
        for edits in range(7):
            each = [
                deletion**d - deletion ** (d - a) / 2
                for d, a in product(range(edits + 1), repeat=2)
                if d + a <= edits
            ]
            assert min(each) == pytest.approx(1 - deletion**-edits / 2)


def test_the_bound_is_reached():
    """A rule that lets every inserted image drop the kernel: g of the edited set is p^r g."""
    deletion, images, edits = 0.8, 5, 2

    def held(part: tuple[bool, ...]) -> bool:
        return any(part[:images]) and not any(part[images:])

    def share(number: int) -> float:
        parts = product((False, True), repeat=number)
        return sum(
            (1 - deletion) ** sum(part) * deletion ** (number - sum(part))
            for part in parts
            if held(part)
        )

    assert share(images + edits) == pytest.approx(deletion**edits * share(images))


@pytest.mark.parametrize("deletion", [0.5, 0.65, 0.7, 0.8, 0.9, 0.99, 2**-0.25])
def test_no_more_edits_than_leave_one_half(deletion):
    most = most_edits(deletion)
    assert deletion**most > 0.5
    assert deletion ** (most + 1) <= 0.5 or deletion ** (most + 1) == pytest.approx(0.5)


@pytest.mark.parametrize("limit", [0.5, 0.625, 0.9])
def test_a_count_is_proven_where_the_bound_of_clopper_and_pearson_says_so(limit):
    draws, level = 200, 1e-4
    hits = np.arange(1, draws + 1)
    lower = np.concatenate([[0.0], beta.ppf(level, hits, draws - hits + 1)])
    assert ((tails(draws, limit) < level) == (lower > limit)).all()


def test_drawn_parts_claim_no_more_than_all_of_them():
    scores = concentrated(11, 5)
    whole, drawn = certificate(scores, 0.8), certificate(scores, 0.8, draws=1000)
    assert whole.exact
    assert not drawn.exact
    claimed = drawn.decision != 0
    assert claimed.any()
    assert (drawn.decision == whole.decision)[claimed].all()
    assert (drawn.edits <= whole.edits).all()


def test_a_kernel_out_of_reach_is_abstained_from():
    scores = concentrated(5, 0).astype(np.float32)
    scores[:, 3] = np.nan
    for draws in (16, 64):
        found = certify(scores, KEPT, deletion=0.7, draws=draws, confidence=0.9, seed=0)
        assert found.decision[3] == 0
        assert found.edits[3] == -1


def test_no_more_edits_are_counted_than_there_are_images():
    found = certificate(concentrated(4, 0), 0.999)
    assert found.edits.max() == 4  # of kernels that are in no part's circuit


def test_more_confidence_certifies_less():
    scores = np.random.default_rng(0).gamma(0.5, size=(30, 300)).astype(np.float32)
    certain = [
        certify(scores, 30, deletion=0.8, draws=200, confidence=confidence, seed=0)
        for confidence in (0.5, 0.99, 1 - 1e-12)
    ]
    claims = [int((each.decision != 0).sum()) for each in certain]
    assert claims[0] >= claims[1] > claims[2]
    assert all((each.edits[each.decision == 0] == -1).all() for each in certain)
