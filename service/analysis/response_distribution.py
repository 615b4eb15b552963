"""How a unit's responses are spread over the images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.response_tables import STEPS


@dataclass(frozen=True)
class ResponseDistribution:
    """Tells how a unit's responses r(y) are spread over all images that can be used, of both
    splits.

    Attributes:
        images: how many are counted: those on which the response is finite.
        mean: of their responses; None where there is no image.
        sd: standard deviation of them; None where there is no image.
        edges: ends of the histogram's steps, ascending, one more than there are steps; empty where
            there is no image.
        counts: images in each step.
    """

    images: int
    mean: float | None
    sd: float | None
    edges: tuple[float, ...]
    counts: tuple[int, ...]


def response_distribution(reader: Reader, commit: Commit) -> ResponseDistribution:
    """Tell how the responses of a stored unit are spread: as the stage of responses found, where
    units have images of their own, or from what the unit stored of all images.

    Raises:
        QueryError: the atlas has no distribution of the unit.
        CorruptError: what is stored is missing or altered.
    """
    if reader.header.sample is None:
        values = reader.responses(commit)["response"].to_numpy()
        counts, edges = np.histogram(values, STEPS)
        return ResponseDistribution(
            len(values),
            float(values.mean()),
            float(values.std()),
            tuple(edges.tolist()),
            tuple(counts.tolist()),
        )
    found = reader.distribution(commit.layer, commit.unit)
    if found is None:
        raise QueryError(
            f"{reader.objects.location} has no responses of all images to unit {commit.unit} of "
            f"{commit.layer!r}: run the build again"
        )
    if not found["images"]:
        return ResponseDistribution(0, None, None, (), ())
    ends = np.linspace(found["low"], found["high"], STEPS + 1)
    return ResponseDistribution(
        found["images"], found["mean"], found["sd"], tuple(ends.tolist()), tuple(found["counts"])
    )
