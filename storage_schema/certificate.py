"""Which kernels stay in a unit's circuit, or outside, whatever a few edits make of its images.

Anani et al., "Certified Circuits", 2026 (arXiv 2602.22968), certify a circuit against edits of the
images that it was found by, with the randomised deletion of Huang et al., "RS-Del", 2023 (arXiv
2302.01757), whose theorem is for sequences; the one below is for sets. They run the network for
every draw. Here each image's scores are stored, and a draw is a row-sum.

**The smoothed circuit.** Let S be the set of images, and let a random part T of it lose each image
with probability p, on its own. A kernel's share g(S) is the probability that the circuit of T, the
k kernels of the largest mean score over T, holds it; the circuit of no image holds none. The
smoothed circuit of S holds the kernels of g(S) > 1/2. It is about the smoothed circuit that a
certificate speaks. It has about, not exactly, k kernels.

**Theorem.** Let S' come of S by at most r edits, each of which deletes an image or inserts any
other, whatever its scores. If p^r g(S) > 1/2, then g(S') > 1/2; and likewise for 1 - g: if
p^r (1 - g(S)) > 1/2, then g(S') < 1/2.

Proof. Let d images be deleted and a inserted, d + a <= r, and let C be what S and S' share. T lost
all the d images, with probability p^d, or did not; where it did, it is a random part of C. So
g(S) = p^d g(C) + (1 - p^d) u with some u in [0, 1], which gives g(C) >= (g(S) - 1 + p^d) / p^d. In
the same way g(S') >= p^a g(C). Together g(S') >= p^a (1 - (1 - g(S)) / p^d), which is above 1/2
where

    1 - g(S) < p^d - p^(d - a) / 2.

Let d + a = r, as fewer edits ask for less, and z = p^-a, which lies between 1 and p^-r. The right
side is p^r (z - z^2 / 2), concave in z, so smallest at an end: at a = 0 it is p^r / 2, at a = r it
is 1 - p^-r / 2. Their difference is (1 - p^r)^2 / (2 p^r) >= 0, so the second is the smaller, and
below it all others hold: 1 - g(S) < 1 - p^-r / 2, or p^r g(S) > 1/2. The second claim is the first
for "is not held". QED. (Insertions are the worst case. That an image may be exchanged for another
costs two edits.)

So g must be above p^-r / 2, and r edits can be certified only where p^r > 1/2. A larger p certifies
more edits, of a circuit that fewer images at a time decide on: g of a kernel is at most 1 - p^n of
n images, the chance that any is left.

**Drawn or exact.** Up to as many parts as draws were asked for, all 2^n are looked at, and g is
exact. Else g is estimated from so many drawn parts. Of m draws c hold the kernel; the lower bound
of Clopper and Pearson (Biometrika 26, 1934) at level alpha is above q just where a binomial of m
and q is c or more with a probability below alpha. alpha is (1 - confidence) / (2 N) for N kernels:
with a probability of `confidence` or more, no kernel is certified wrongly at all. A kernel for
which neither claim can be made is abstained from.

**What is held fixed.** An image's scores are taken as they were stored. Those of `actgrad` and
`snip` depend on that image alone. `actgrad_centred` and `integrated` take means over the scoring
images with them, which an edit would move a little: their certificate leaves that out.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.stability import memberships

DELETION = 0.8
"""The probability with which an image is deleted where none is given: certifies up to 3 edits."""
PARTS = 1024
"""How many parts of the images are looked at where no number is given: all of ten images'."""
CONFIDENCE = 0.999


@dataclass(frozen=True)
class Certified:
    """Says of each kernel what is certified of it.

    Attributes:
        decision: int8, 1 in the smoothed circuit, -1 outside, 0 abstained from, also where a kernel
            cannot reach the unit. Shape: (kernels,).
        edits: int16, the number of edits up to which that holds, at most as many as there are
            images; -1 where it was abstained from. Shape: (kernels,).
        exact: whether all parts of the images were looked at.
    """

    decision: NDArray[np.int8]
    edits: NDArray[np.int16]
    exact: bool


def most_edits(deletion: float) -> int:
    """Return the largest r with p^r > 1/2: no kernel can be certified for more edits.

    >>> most_edits(0.8), most_edits(0.9), most_edits(0.5)
    (3, 6, 0)
    """
    edits = math.ceil(math.log(0.5) / math.log(deletion)) - 1
    return edits + 1 if deletion ** (edits + 1) > 0.5 else edits  # the logarithms are rounded


def certify(
    scores: NDArray[np.float32],
    kept: int,
    *,
    deletion: float,
    draws: int,
    confidence: float,
    seed: int,
) -> Certified:
    """Certify each kernel for as many edits of the images as can be, see the module.

    Args:
        scores: (images, kernels), NaN where a kernel cannot reach the unit.
        kept: k, how many kernels circuits keep.
        deletion: p, above 0 and below 1.
        draws: how many parts of the images to look at, at most.
        confidence: of all claims together, above 0 and below 1, where parts are drawn.
        seed: decides which are.
    """
    images = len(scores)
    most = min(most_edits(deletion), images)
    limits = [0.5 * deletion**-edits for edits in range(most + 1)]
    exact = 2**images <= draws
    if exact:
        share = _exact_share(scores, kept, deletion)
        inside, outside = (_edits(each, limits) for each in (share, 1 - share))
    else:
        generator = np.random.default_rng([seed, images])
        parts = generator.random((draws, images)) >= deletion
        held = memberships(scores, parts.astype(np.int8), [kept])[0]
        level = (1 - confidence) / (2 * int(np.count_nonzero(~np.isnan(scores[0]))))
        proven = np.stack([_tails(draws, limit) < level for limit in limits])
        certain = proven.sum(axis=0, dtype=np.int16) - np.int16(1)
        inside, outside = certain[held], certain[draws - held]
    reached = ~np.isnan(scores[0])
    decision = np.where(reached, (inside >= 0).astype(np.int8) - (outside >= 0), 0)
    edits = np.where(reached, np.maximum(inside, outside), -1)
    return Certified(decision.astype(np.int8), edits.astype(np.int16), exact)


def _exact_share(scores: NDArray[np.float32], kept: int, deletion: float) -> NDArray[np.float64]:
    """g of each kernel, over all parts of the images. Parts of one size are equally likely."""
    images = len(scores)
    parts = (np.arange(2**images)[:, None] >> np.arange(images) & 1).astype(np.int8)
    sizes = parts.sum(axis=1)
    share = np.zeros(scores.shape[1])
    for size in range(1, images + 1):
        chance = (1 - deletion) ** size * deletion ** (images - size)
        share += chance * memberships(scores, parts[sizes == size], [kept])[0]
    return share


def _edits(share: NDArray[np.float64], limits: list[float]) -> NDArray[np.int16]:
    """The number of edits for which a share is enough, -1 where it is not for none."""
    # Shares are sums of up to a thousand chances: one at the limit itself must not pass it.
    return np.searchsorted(limits, share - 1e-12, side="left").astype(np.int16) - np.int16(1)


def _tails(draws: int, chance: float) -> NDArray[np.float64]:
    """P(X >= c) of a binomial X of so many draws, for c = 0 to draws. Shape: (draws + 1,)."""
    factorial = np.array([math.lgamma(n + 1) for n in range(draws + 1)])
    hits = np.arange(draws + 1)
    terms = factorial[-1] - factorial - factorial[::-1]
    terms += hits * math.log(chance) + hits[::-1] * math.log1p(-chance)
    return np.cumsum(np.exp(terms)[::-1])[::-1]
