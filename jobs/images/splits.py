"""The split of an image set: images that score kernels, and held-out images that test circuits."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from circuit_atlas.jobs.spec.images import ImagesSpec
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import nearest


@dataclass(frozen=True)
class Candidate:
    """An image to be assigned to a split: its name, the SHA-256 of its bytes, and whether it is
    readable."""

    name: str
    sha256: str
    usable: bool


def held_out(candidates: Sequence[Candidate], spec: ImagesSpec, *, seed: int) -> frozenset[str]:
    """Chooses the held-out images; returns their names.

    A fraction holds out round(fraction x usable) images, at least one where there are two (but
    for the fraction 0) and never all of them: those with the lowest hash of the seed and their
    bytes. So another image in the set moves at most one other, renaming moves none, and copies
    of an image mostly stay together. `odd` takes every second image, readable or not, so that a
    file that gets damaged moves no other.

    Args:
        candidates: all images, in the order of their names.
        spec: its `held_out` is the rule.
        seed: decides which images a fraction takes.

    Raises:
        ImageError: the rule names an image that isn't there.
    """
    if isinstance(spec.held_out, tuple):
        return _by_name(candidates, spec.held_out)
    if spec.held_out == "odd":
        return frozenset(candidate.name for candidate in candidates[1::2])
    usable = [candidate for candidate in candidates if candidate.usable]
    fraction = float(spec.held_out)
    count = min(max(round(fraction * len(usable)), 1), len(usable) - 1) if fraction else 0
    drawn = sorted(usable, key=lambda candidate: _draw(candidate, seed))
    return frozenset(candidate.name for candidate in drawn[: max(count, 0)])


def _by_name(candidates: Sequence[Candidate], names: Sequence[str]) -> frozenset[str]:
    known = {candidate.name for candidate in candidates}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ImageError(
            f"images.held_out names {unknown[0]!r}, which is not among the {len(known)} images "
            f"({len(unknown)} of {len(names)} names are not): "
            f"{nearest(unknown[0], sorted(known), what='images')}"
        )
    return frozenset(names)


def _draw(candidate: Candidate, seed: int) -> tuple[str, str]:
    drawn = hashlib.sha256(f"{seed}|{candidate.sha256}".encode()).hexdigest()
    return drawn, candidate.name
