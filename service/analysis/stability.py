"""How sure a unit's circuit is of its kernels: how often it holds them when the images are drawn
anew, and which ones no few edits of the images can move."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Real

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.top_images import top_images
from circuit_atlas.service.circuit.chosen import chosen_circuit
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.selection import Selection, stored_level
from circuit_atlas.storage_schema.certificate import certify, most_edits
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.stability import DRAWS, FEWEST_IMAGES, bootstrap
from circuit_atlas.storage_schema.wording import nearest

CORE = 0.95
"""The share of draws that makes a kernel one of the stable core where none is given."""


@dataclass(frozen=True, eq=False, repr=False)
class Stability:
    """Says how often each kernel is in a unit's circuit when that is found anew.

    Attributes:
        origin: the unit, and the criterion that ranks its kernels.
        keep: the fraction that circuits keep.
        kernels: how many kernels that is.
        draws: how many circuits were found.
        images: ids of the images that were drawn from, with replacement and as many each time;
            empty where each circuit was trained from another seed.
        counts: int64, how many of the circuits hold the kernel; 0 where it cannot reach the unit.
            Shape: (kernels of the axis,), in the order of `circuit.kernels()`'s positions.
        stored: whether they come from the atlas, and were not worked out anew.
    """

    origin: Origin
    keep: float
    kernels: int
    draws: int
    images: tuple[int, ...]
    counts: NDArray[np.int64]
    stored: bool

    @property
    def share(self) -> NDArray[np.float64]:
        """Return the share of the circuits that hold each kernel. Shape: as of `counts`."""
        return self.counts / self.draws

    def __repr__(self) -> str:
        what = "draws of its images" if self.images else "seeds"
        return (
            f"<Stability {self.origin.name} {self.origin.criterion}, keep {self.keep:g}: "
            f"{len(self.core())} kernels in {CORE:.0%} of {self.draws} {what}, a circuit has "
            f"{self.kernels}>"
        )

    def core(self, at_least: float = CORE) -> Circuit:
        """Return the circuit of the kernels that so large a share of the circuits hold.

        QueryError unless `at_least` is above 0 and at most 1.
        """
        if not isinstance(at_least, Real) or not 0 < float(at_least) <= 1:
            raise QueryError(f"at_least={at_least!r} is no share: give one above 0, such as 0.95")
        inside = self.counts >= float(at_least) * self.draws - 1e-9
        what = "draws of its images" if self.images else "seeds"
        return _circuit(self.origin, inside, f"in {float(at_least):.0%} of {self.draws} {what}")


@dataclass(frozen=True, eq=False, repr=False)
class Certificate:
    """Says which kernels are in a unit's smoothed circuit, or outside, whatever a few edits make of
    its images. The theorem and its proof stand at the top of `storage_schema.certificate`.

    Attributes:
        origin: the unit, and the criterion that ranks its kernels.
        keep: the fraction that circuits keep.
        kernels: how many kernels that is.
        edits: up to so many images deleted or inserted, in any mixture, change nothing certified.
        deletion: the probability with which an image is deleted.
        confidence: that nothing is certified wrongly: 1 where all parts of the images were looked
            at, else what was asked for.
        images: ids of the images.
        decision: int8, 1 certified inside for `edits`, -1 outside, 0 abstained from. Shape:
            (kernels of the axis,).
        certified_edits: int16, the most edits, up to the number of images, for which each kernel
            could be certified, -1 for none. Shape: (kernels of the axis,).
    """

    origin: Origin
    keep: float
    kernels: int
    edits: int
    deletion: float
    confidence: float
    images: tuple[int, ...]
    decision: NDArray[np.int8]
    certified_edits: NDArray[np.int16]

    def __repr__(self) -> str:
        return (
            f"<Certificate {self.origin.name} {self.origin.criterion}, keep {self.keep:g}, "
            f"{_edits(self.edits)}: {len(self.inside)} kernels inside, {len(self.outside)} "
            f"outside, {self.abstained} abstained from; a circuit has {self.kernels}>"
        )

    @cached_property
    def inside(self) -> Circuit:
        """Return the circuit of the kernels that are certified to be inside."""
        return _circuit(self.origin, self.decision == 1, f"certified for {_edits(self.edits)}")

    @cached_property
    def outside(self) -> Circuit:
        """Return the circuit of the kernels that are certified to be outside."""
        what = f"certified outside for {_edits(self.edits)}"
        return _circuit(self.origin, self.decision == -1, what)

    @property
    def abstained(self) -> int:
        """Count the kernels that can reach the unit and of which nothing is certified."""
        return len(self.inside.reachable) - len(self.inside) - len(self.outside)


def stability_of(origin: Origin, *, keep: float) -> Stability:
    """Tell how stable a unit's circuit is, see `Unit.stability`."""
    reader, commit, criterion = origin.reader, origin.commit, origin.criterion
    header, level = reader.header, stored_level(reader, keep=keep)
    drawn = dict(header.redrawn)
    stored = criterion in drawn and level is not None
    by_image = criterion in header.image_criteria
    commit.form(criterion)  # a dead unit says so
    if stored and level is not None:
        counts = reader.stability(commit, criterion)[level]
    elif by_image:
        counts = bootstrap(_scores(origin), [keep], seed=header.seed)[0]
    elif criterion in drawn:
        known = ", ".join(f"{fraction:g}" for fraction in header.fractions)
        raise QueryError(
            f"the rankings of {criterion!r} from other seeds are not stored, only in how many "
            f"trainings' circuits a kernel is; keep is one of {known}"
        )
    else:
        raise QueryError(_no_draws(reader, criterion))
    return Stability(
        origin,
        float(keep),
        kernels_kept(keep, commit.kernels),
        DRAWS if by_image else drawn[criterion],
        tuple(top_images(reader, commit)["image"].to_pylist()) if by_image else (),
        counts.astype(np.int64),
        stored,
    )


def certificate_of(
    origin: Origin, *, keep: float, edits: int, deletion: float, draws: int, confidence: float
) -> Certificate:
    """Certify a unit's kernels, see `Unit.certificate`."""
    reader, commit = origin.reader, origin.commit
    stored_level(reader, keep=keep)  # a fraction that is none says so
    edits = arguments.at_least(edits, 0, what="edits")
    deletion = _between(deletion, what="deletion")
    confidence = _between(confidence, what="confidence")
    draws = arguments.at_least(draws, 1, what="draws")
    most = most_edits(deletion)
    if edits > most:
        remedy = "give fewer, or a larger deletion" if most else "give a deletion above 0.5"
        raise QueryError(
            f"edits={edits} is too many: where images are deleted with probability {deletion:g}, "
            f"at most {most} can be certified; {remedy}"
        )
    if origin.criterion not in reader.header.image_criteria:
        arguments.image_criterion(reader, None)  # an atlas without any says so
        known = reader.header.image_criteria
        remedy = nearest(origin.criterion, known, what="criteria that have them")
        raise QueryError(
            f"{origin.criterion!r} has no scores of single images, which a certificate is made of: "
            f"{remedy}"
        )
    commit.form(origin.criterion)
    kept, scores = kernels_kept(keep, commit.kernels), _scores(origin)
    if edits > len(scores):
        raise QueryError(
            f"edits={edits} is too many: unit {origin.name} has scores of {len(scores)} images, "
            "which so many edits can exchange for any others; give fewer"
        )
    found = certify(
        scores,
        kept,
        deletion=deletion,
        draws=draws,
        confidence=confidence,
        seed=reader.header.seed,
    )
    return Certificate(
        origin,
        float(keep),
        kept,
        edits,
        deletion,
        1.0 if found.exact else confidence,
        tuple(top_images(reader, commit)["image"].to_pylist()),
        np.where(found.edits >= edits, found.decision, np.int8(0)),
        found.edits,
    )


def redrawable(reader: Reader, given: str | None) -> str:
    """Return the criterion of that name, or the atlas' first whose circuits can be drawn anew;
    QueryError where there is none."""
    if given is not None:
        return arguments.criterion(reader, given)
    known = reader.header.redrawable
    return known[0] if known else arguments.image_criterion(reader, None)


def _scores(origin: Origin) -> NDArray[np.float32]:
    """The scores of the unit's top images; QueryError where these are too few to draw anew."""
    scores = origin.reader.image_scores(origin.commit, origin.criterion)
    if len(scores) < FEWEST_IMAGES:
        raise QueryError(
            f"unit {origin.name} has scores of {len(scores)} image, and there is nothing to draw: "
            f"build an atlas with top_images of {FEWEST_IMAGES} or more"
        )
    return scores


def _no_draws(reader: Reader, criterion: str) -> str:
    """Why a criterion's circuits cannot be drawn anew, and what to do."""
    known = reader.header.image_criteria
    remedy = nearest(criterion, known, what="criteria that have them")
    if criterion == "learned":
        remedy = (
            "for its stability build an atlas with seeds = 3 in [learned], which stores how many "
            "trainings agree on a kernel"
        )
    return f"{criterion!r} has no scores of single images to draw anew: {remedy}"


def _between(value: object, *, what: str) -> float:
    if not isinstance(value, Real) or not 0 < float(value) < 1:
        raise QueryError(
            f"{what}={value!r} is out of range: give a probability above 0 and below 1"
        )
    return float(value)


def _edits(number: int) -> str:
    return "1 edit" if number == 1 else f"{number} edits"


def _circuit(origin: Origin, inside: NDArray[np.bool_], title: str) -> Circuit:
    """The circuit of some of the unit's kernels, with the scores of all scoring images."""
    scores = origin.reader.scores(origin.commit, origin.criterion)[0]
    reachable = np.flatnonzero(~np.isnan(scores))
    positions = reachable[inside[reachable]]
    picked = Selection(positions, scores[positions], reachable)
    # It is no circuit of a kept fraction, so nothing was measured of it.
    return chosen_circuit(replace(origin, alone=False), picked, title=f"{origin.criterion} {title}")
