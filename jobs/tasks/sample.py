"""Which images each unit is computed on, where those are not all of the set."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from circuit_atlas.jobs.images.image_set import ImageSet
from circuit_atlas.jobs.spec.circuits import CircuitsSpec, DrawnSpec
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.sample import Drawn, Sample, Why

SMALL = 1000
"""A set of so many usable images or fewer is small: by default, units have all of it."""
_DEFAULT = 64


def decided(circuits: CircuitsSpec, *, images: int) -> Sample | None:
    """Decides which of so many usable images a unit has; None where it has all of them."""
    by_default = None
    if images > SMALL:
        by_default = Drawn(max(_DEFAULT, circuits.top_images), _DEFAULT)

    def of_split(asked: object) -> Drawn | None:
        if isinstance(asked, DrawnSpec):
            return Drawn(asked.top, asked.random)
        return by_default if asked is None else None

    sample = Sample(of_split(circuits.scoring), of_split(circuits.held_out))
    return None if sample == Sample(None, None) else sample


@dataclass(frozen=True)
class UnitImages:
    """The images of one unit.

    Attributes:
        scoring: ids of those that kernels are scored on, ascending.
        held_out: the same of those that circuits are tested on.
        drawn: why each is among them, scoring images first; None where all of the split are.
    """

    scoring: tuple[int, ...]
    held_out: tuple[int, ...]
    drawn: tuple[Why | None, ...]

    @classmethod
    def every(cls, images: ImageSet) -> UnitImages:
        """All images that can be used."""
        unknown = [None] * (len(images.scoring) + len(images.held_out))
        return cls(images.scoring, images.held_out, tuple(unknown))

    @property
    def ids(self) -> tuple[int, ...]:
        """All of them, scoring images first."""
        return (*self.scoring, *self.held_out)


def images_of(
    reader: Reader, header: AtlasHeader, images: ImageSet, layer: str, unit: int
) -> UnitImages:
    """Gives the images of a unit: those that it responds to most, as the stage of responses found,
    and some drawn from the others of each split; the same whenever asked.

    CorruptError where the atlas has not the unit's responses.
    """
    if header.sample is None:
        return UnitImages.every(images)
    found = reader.distribution(layer, unit)
    if found is None:
        raise CorruptError(
            f"{reader.objects.location} has no responses of unit {unit} of {layer!r} to choose its "
            "images by: run the build again"
        )
    ids: list[tuple[int, ...]] = []
    drawn: list[Why | None] = []
    for number, (split, rule) in enumerate(
        (("scoring", header.sample.scoring), ("held_out", header.sample.held_out))
    ):
        every: Sequence[int] = images.scoring if split == "scoring" else images.held_out
        if rule is None:
            ids.append(tuple(every))
            drawn += [None] * len(every)
            continue
        top = frozenset(found[f"{split}_images"][: rule.top])
        others = np.array([image for image in every if image not in top], dtype=np.int64)
        name = int.from_bytes(hashlib.sha256(layer.encode()).digest()[:8], "big")
        rng = np.random.default_rng([header.seed, name, unit, number])
        chosen = rng.choice(others, min(rule.random, len(others)), replace=False).tolist()
        ids.append(tuple(sorted((*top, *chosen))))
        drawn += ["top" if image in top else "random" for image in ids[-1]]
    return UnitImages(ids[0], ids[1], tuple(drawn))
