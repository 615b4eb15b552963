"""Which kernels a question asks for: a stored circuit, or the best of a stored score."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import SupportsIndex

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import kernels_kept, ranking
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import listed, nearest


@dataclass(frozen=True)
class Selection:
    """Holds kernels of one unit, by ascending position on its axis.

    Attributes:
        positions: the chosen kernels, int64.
        scores: their scores, float32.
        reachable: all kernels that can reach the unit, int64.
        images: the images whose scores were averaged; empty for the score of the whole set.
    """

    positions: NDArray[np.int64]
    scores: NDArray[np.float32]
    reachable: NDArray[np.int64]
    images: tuple[int, ...] = ()


def select(
    reader: Reader,
    commit: Commit,
    criterion: str,
    *,
    keep: float | None,
    kernels: int | None,
    images: Sequence[int] | None,
) -> Selection:
    """Select the kernels that `Unit.circuit` gives, whose arguments these are; `commit` is of a
    unit that is done."""
    count = _count(commit, keep, kernels)
    level = _level(reader.header.fractions, commit.kernels, count, keep)
    if images is not None:
        chosen = image_ids(images)
        scores = scores_of_images(reader, commit, criterion, chosen)
        if criterion in reader.header.grouped and level is None:
            trained = f"circuits of groups by {criterion!r} are stored as they were trained"
            raise QueryError(_only_stored(reader, commit, trained))
        return _best(scores, count, chosen)
    stored = reader.scores(commit, criterion)
    reason = reader.header.only_stored(criterion)
    if level is None and reason is not None:
        raise QueryError(_only_stored(reader, commit, reason))
    if level is None:
        return _best(stored[0], count)
    mask = reader.mask(commit, criterion, level)
    run = stored[level if len(stored) > 1 else 0]
    positions = np.flatnonzero(mask)
    return Selection(positions, run[positions], np.flatnonzero(~np.isnan(run)))


def kept_mask(reader: Reader, commit: Commit, criterion: str, *, keep: float) -> NDArray[np.bool_]:
    """Return the circuit that `select` gives for a kept fraction, as a mask of the unit's axis.

    Reads the circuit alone where the fraction is a stored one: scores are what takes long to read
    of a thousand units. Shape: (kernels,). Errors as of `select`.
    """
    count = _count(commit, keep, None)
    level = _level(reader.header.fractions, commit.kernels, count, keep)
    if level is not None:
        return reader.mask(commit, criterion, level)
    mask = np.zeros(reader.layer(commit.layer).index.size, np.bool_)
    mask[select(reader, commit, criterion, keep=keep, kernels=None, images=None).positions] = True
    return mask


def stored_level(reader: Reader, *, keep: float) -> int | None:
    """The sparsity level whose circuits `kept` reads, or None where it makes them from scores.

    QueryError where `keep` is no kept fraction.
    """
    return _level(reader.header.fractions, 1, 1, _fraction(keep))


def run_scores(
    reader: Reader, commit: Commit, criterion: str, *, keep: float
) -> NDArray[np.float32]:
    """Return the scores that the circuit of a kept fraction was chosen by. Shape: (kernels,)."""
    stored = reader.scores(commit, criterion)
    level = _level(reader.header.fractions, commit.kernels, 0, keep)
    return stored[0 if level is None or len(stored) == 1 else level]


def _count(commit: Commit, keep: float | None, kernels: int | None) -> int:
    """How many kernels are asked for; QueryError unless exactly one way was used, and rightly."""
    if (keep is None) == (kernels is None):
        raise QueryError(
            "give either keep, a fraction such as keep=0.1, or kernels, a number such as "
            f"kernels={max(1, commit.kernels // 10)}"
        )
    if kernels is not None:
        try:
            count = operator.index(kernels)
        except TypeError:
            raise QueryError(f"kernels={kernels!r} is no whole number") from None
        if not 1 <= count <= commit.kernels:
            raise QueryError(
                f"kernels={count} is out of range: {commit.kernels} kernels can reach unit "
                f"{commit.unit} of {commit.layer}, so give 1 to {commit.kernels}"
            )
        return count
    fraction = _fraction(keep)
    return kernels_kept(fraction, commit.kernels)


def _fraction(keep: object) -> float:
    if not isinstance(keep, Real):
        raise QueryError(f"keep={keep!r} is no number: give a fraction in (0, 1]")
    fraction = float(keep)
    if not 0 < fraction <= 1:
        raise QueryError(f"keep={keep!r} is outside (0, 1]: give a fraction such as 0.1")
    return fraction


def _level(
    fractions: tuple[float, ...], reachable: int, count: int, keep: float | None
) -> int | None:
    """The level that was asked for: by its fraction, or by its number of kernels."""
    for level, fraction in enumerate(fractions):
        if keep is None:
            if kernels_kept(fraction, reachable) == count:
                return level
        elif math.isclose(fraction, keep, rel_tol=1e-9):
            return level
    return None


def _only_stored(reader: Reader, commit: Commit, reason: str) -> str:
    """Which circuits can be had where others cannot."""
    fractions = reader.header.fractions
    known = ", ".join(f"{f:g} ({kernels_kept(f, commit.kernels):,})" for f in fractions)
    return f"{reason}, so only its stored circuits can be had; keep (and kernels) are {known}"


def scores_of_images(
    reader: Reader, commit: Commit, criterion: str, images: tuple[int, ...]
) -> NDArray[np.float64]:
    """Return the score of a set of the unit's top images: the mean of theirs. Shape: (kernels,),
    NaN where a kernel cannot reach the unit.

    Where circuits of stored sub-feature groups were trained, that of a group is the share of kept
    fractions whose circuits hold the kernel.

    QueryError where the criterion has no scores of single images, or an image is none of the top;
    where circuits were trained, unless the images are those of a group.
    """
    if criterion in reader.header.grouped:
        return _trained_scores(reader, commit, criterion, images)
    known = reader.header.image_criteria
    if criterion not in known:
        untrained = (
            ", and this atlas no learned circuits of groups, as groups = true in [learned] gives"
            if criterion == "learned"
            else ""
        )
        raise QueryError(
            f"{criterion!r} has no scores of single images{untrained}: "
            + nearest(criterion, known, what="criteria that have them")
        )
    responses = reader.responses(commit)
    ranks = {
        image: rank
        for image, rank in zip(
            responses["image"].to_pylist(), responses["rank"].to_pylist(), strict=True
        )
        if rank is not None
    }
    ordered = ", ".join(str(image) for image in sorted(ranks, key=lambda image: ranks[image]))
    unknown = [str(image) for image in images if image not in ranks]
    if unknown or not images:
        what = f"no scores of image {', '.join(unknown)}" if unknown else "no score of no images"
        raise QueryError(
            f"unit {commit.unit} of {commit.layer} has {what}: it has those of its top images, "
            f"{ordered}"
        )
    # By rank: a sum depends on its order, and a circuit not on that of the images' names.
    rows = reader.image_scores(commit, criterion)[sorted(ranks[image] for image in images)]
    mean: NDArray[np.float64] = rows.mean(axis=0, dtype=np.float64)
    return mean


def _trained_scores(
    reader: Reader, commit: Commit, criterion: str, images: tuple[int, ...]
) -> NDArray[np.float64]:
    levels = reader.group_levels(commit, criterion)
    groups: dict[int, set[int]] = {}
    for row in reader.groups(commit).to_pylist():
        if row["criterion"] == criterion:
            groups.setdefault(row["group"], set()).add(row["image"])
    for group, members in groups.items():
        if members == set(images):
            scores = levels[group] / np.float64(len(reader.header.fractions))
            scores[np.isnan(reader.scores(commit, criterion)[0])] = np.nan
            return scores
    known = "; ".join(", ".join(map(str, sorted(each))) for _, each in sorted(groups.items()))
    raise QueryError(
        f"{criterion!r} has circuits of whole groups alone, and images {listed(images)} are none: "
        f"the groups of unit {commit.unit} of {commit.layer} are {known}"
    )


def image_ids(images: Sequence[int]) -> tuple[int, ...]:
    """List each id once, in the order given; QueryError where it is no list of ids."""
    try:
        given = list(images)
    except TypeError:
        raise QueryError(f"images={images!r} is no list of ids: give one such as [0, 1]") from None
    return tuple(dict.fromkeys(_id(image) for image in given))


def _id(image: SupportsIndex) -> int:
    try:
        return operator.index(image)
    except TypeError:
        raise QueryError(
            f"images are named by their ids, whole numbers, not by {image!r}"
        ) from None


def _best(scores: NDArray[np.floating], count: int, images: tuple[int, ...] = ()) -> Selection:
    """The `count` best kernels of a score, ties by position."""
    order = ranking(scores)
    positions = np.sort(order[:count])
    return Selection(positions, scores[positions].astype(np.float32), np.sort(order), images)
