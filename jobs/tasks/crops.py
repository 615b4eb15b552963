"""Crops of images that show where each channel of the convolutions upstream responds most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.storage_schema.network import TOP_CROPS
from circuit_atlas.storage_schema.network_tables import CHANNELS


@dataclass(frozen=True)
class _LargestMaxima:
    """The largest maxima of every channel of a step, largest first.

    Attributes:
        values: (candidates, channels).
        image_indices: of the same shape, the index of each maximum's image.
        argmax: of the same shape, the flat position of each maximum.
    """

    values: NDArray[np.float64]
    image_indices: NDArray[np.int64]
    argmax: NDArray[np.int64]

    def merged(self, other: _LargestMaxima) -> _LargestMaxima:
        """The largest of both, at most `TOP_CROPS`, ties by image index."""
        values, image_indices, argmax = (
            np.concatenate(pair)
            for pair in zip(vars(self).values(), vars(other).values(), strict=True)
        )
        order = np.lexsort((image_indices, -values), axis=0)[:TOP_CROPS]
        columns = np.arange(values.shape[1])
        return _LargestMaxima(
            values[order, columns], image_indices[order, columns], argmax[order, columns]
        )


def channel_crops(layer: TracedLayer, images: Sequence[int], batches: Iterable[Tensor]) -> pa.Table:
    """Makes the table `network_tables.CHANNELS` of the convolutions on the layer's axis.

    A maximum that is NaN or infinite counts for nothing. Where a convolution runs several times,
    the largest maximum of its calls counts.

    Args:
        layer: the layer.
        images: ids of the images.
        batches: the images in the same order, (batch, channels, height, width) at a time.
    """
    largest: dict[str, _LargestMaxima] = {}
    start = 0

    def look(step: Step, value: Tensor) -> None:
        if step.convolution not in layer.upstream.ordinals:
            return
        maxima, argmax = value.flatten(2).max(2)
        values = torch.where(maxima.isfinite(), maxima, -torch.inf).double().cpu().numpy()
        indices = np.arange(start, start + len(values))[:, None] + np.zeros_like(values, np.int64)
        here = _LargestMaxima(values, indices, argmax.cpu().numpy())
        nothing = _LargestMaxima(*(array[:0] for array in vars(here).values()))
        largest[step.name] = largest.get(step.name, nothing).merged(here)

    with torch.no_grad():
        for batch in batches:
            layer.network.output(batch, look)
            start += len(batch)
    rows = [
        row
        for _, convolution, site in layer.pieces()
        for row in _rows(layer, convolution.name, [(name, largest[name]) for name in site.steps])
    ]
    by_name = {column.name: [row[n] for row in rows] for n, column in enumerate(CHANNELS.columns)}
    # Where there are no crops, numpy would take the empty list for floats.
    by_name["image"] = np.asarray(images)[np.array(by_name["image"], np.int64)].tolist()
    return CHANNELS.from_columns(by_name)


def _rows(
    layer: TracedLayer, convolution: str, calls: Sequence[tuple[str, _LargestMaxima]]
) -> Iterator[tuple[str | int | float, ...]]:
    """Rows of one convolution, with the image's index where its id belongs."""
    steps = [layer.network.by_name[name] for name, _ in calls]
    fields = [receptive_fields(layer.network, step) for step in steps]
    for channel in range(steps[0].shape[0]):
        candidates = sorted(
            (-float(maxima.values[n, channel]), int(maxima.image_indices[n, channel]), call, n)
            for call, (_, maxima) in enumerate(calls)
            for n in range(len(maxima.values))
        )
        taken: set[int] = set()
        for value, index, call, n in candidates:
            if index in taken or len(taken) == TOP_CROPS or not np.isfinite(value):
                continue
            y, x = divmod(int(calls[call][1].argmax[n, channel]), steps[call].shape[2])
            (top, bottom), (left, right) = fields[call]
            box = (int(top[y]), int(left[x]), int(bottom[y]) + 1, int(right[x]) + 1)
            yield (convolution, channel, len(taken), index, -value, y, x, *box)
            taken.add(index)
