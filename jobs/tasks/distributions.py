"""Chunks of responses summed up: for each unit its top images and the distribution of all.

Chunks are read one after the other, twice: once for the extent of each unit's responses, once to
count them between. So memory is that of one chunk, whatever the number of images.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import Split
from circuit_atlas.storage_schema.response_tables import CHUNK, DISTRIBUTIONS, STEPS
from circuit_atlas.storage_schema.responses import read_chunk


@dataclass(frozen=True)
class Chunk:
    """What some images do to units: ids (images,), responses and positions (images, units)."""

    images: NDArray[np.int64]
    responses: NDArray[np.float32]
    positions: NDArray[np.int32]


@dataclass
class _Top:
    """The images of a split with the largest responses, best first: (images, units) each."""

    most: int
    images: NDArray[np.int64]
    responses: NDArray[np.float32]
    positions: NDArray[np.int32]

    def add(self, chunk: Chunk, of_split: NDArray[np.bool_]) -> None:
        """Takes the images of a chunk that are of the split."""
        if not of_split.any() or not self.most:
            return
        units = chunk.responses.shape[1]
        ids = np.repeat(chunk.images[of_split][:, None], units, axis=1)
        images = np.concatenate([self.images, ids])
        values = np.concatenate([self.responses, chunk.responses[of_split]])
        positions = np.concatenate([self.positions, chunk.positions[of_split]])
        # A unit that is not finite on some image fails on it, so that image has to be its own.
        ranked = np.where(np.isfinite(values), values, np.inf)
        order = np.lexsort((images, -ranked), axis=0)[: self.most]
        columns = np.arange(units)
        self.images = images[order, columns]
        self.responses = values[order, columns]
        self.positions = positions[order, columns]


def distributions(
    objects: Objects,
    chunks: Sequence[str],
    *,
    units: Sequence[int],
    images: Mapping[Split, Collection[int]],
    top: Mapping[Split, int],
) -> pa.Table:
    """Makes `response_tables.DISTRIBUTIONS` of a set of units.

    Args:
        objects: the store.
        chunks: paths of the chunks, of all images that can be used.
        units: the set, ascending.
        images: ids of the images of each split.
        top: how many top images of each split to keep, at most.

    Raises:
        CorruptError: a chunk is missing, altered, or of other units; or an image is in none.
    """
    ids = {split: np.array(sorted(of_split), np.int64) for split, of_split in images.items()}
    tops = {split: _no_images(len(units), most) for split, most in top.items()}
    count, mean, squares = (np.zeros(len(units)) for _ in range(3))
    low, high = np.full(len(units), np.inf), np.full(len(units), -np.inf)
    seen = 0
    for chunk in _chunks(objects, chunks, len(units)):
        seen += len(chunk.images)
        for split, of_split in tops.items():
            of_split.add(chunk, np.isin(chunk.images, ids[split]))
        values, finite = chunk.responses.astype(np.float64), np.isfinite(chunk.responses)
        low = np.minimum(low, np.where(finite, values, np.inf).min(0))
        high = np.maximum(high, np.where(finite, values, -np.inf).max(0))
        # Chan, Golub and LeVeque 1979: means and squared deviations of two parts, joined.
        number = finite.sum(0)
        of_chunk = np.where(finite, values, 0).sum(0) / np.maximum(number, 1)
        deviations = np.where(finite, values - of_chunk, 0)
        apart, total = of_chunk - mean, np.maximum(count + number, 1)
        squares += (deviations**2).sum(0) + apart**2 * count * number / total
        mean += apart * number / total
        count += number
    if seen != (wanted := sum(len(of_split) for of_split in ids.values())):
        raise CorruptError(
            f"the chunks of responses at {objects.location} are of {seen} images in place of "
            f"{wanted}: delete them and run the build again"
        )
    counts = np.zeros((len(units), STEPS), np.int64)
    for chunk in _chunks(objects, chunks, len(units)):
        counts += _between(chunk.responses, low, high)
    known = count > 0
    spread = np.sqrt(squares / np.maximum(count, 1))

    def known_ones(values: NDArray[np.float64]) -> list[float | None]:
        return [float(v) if k else None for v, k in zip(values, known, strict=True)]

    columns: dict[str, Sequence[object]] = {
        "unit": list(units),
        "images": count.astype(np.int32).tolist(),
        "mean": known_ones(mean),
        "sd": known_ones(spread),
        "low": known_ones(low),
        "high": known_ones(high),
        "counts": counts.tolist(),
    }
    for split, best in tops.items():
        columns[f"{split}_images"] = best.images.T.tolist()
        columns[f"{split}_responses"] = best.responses.T.tolist()
        columns[f"{split}_positions"] = best.positions.T.tolist()
    return DISTRIBUTIONS.from_columns(columns)


def _no_images(units: int, most: int) -> _Top:
    shape = (0, units)
    return _Top(most, np.empty(shape, np.int64), np.empty(shape, np.float32), np.empty(shape, int))


def _between(
    responses: NDArray[np.float32], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Counts images in each step from the smallest to the largest: (units, steps)."""
    units, finite = responses.shape[1], np.isfinite(responses)
    extent = np.where(high > low, high - low, 1)
    share = np.where(
        finite, (np.where(finite, responses, 0) - np.where(finite, low, 0)) / extent, 0
    )
    step = np.minimum((share * STEPS).astype(np.int64), STEPS - 1) + np.arange(units) * STEPS
    return np.bincount(step[finite], minlength=units * STEPS).reshape(units, STEPS)


def _chunks(objects: Objects, paths: Sequence[str], units: int) -> Iterator[Chunk]:
    for path in paths:
        rows = read_chunk(objects, path, CHUNK)
        shape = (len(rows), units)
        values, positions = (
            rows[name].combine_chunks().values.to_numpy(zero_copy_only=False)
            for name in ("responses", "positions")
        )
        if values.size != len(rows) * units or positions.size != values.size:
            raise CorruptError(f"{objects.at(path)} is of other units: delete it and build again")
        images = rows["image"].to_numpy().astype(np.int64)
        yield Chunk(images, values.reshape(shape), positions.reshape(shape))
