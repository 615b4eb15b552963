"""Where each channel of the convolutions upstream responds most: crops to show it by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.graph import Step
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.storage_schema.network import TOP_CROPS
from circuit_atlas.storage_schema.tables import CHANNELS


@dataclass(frozen=True)
class _Best:
    """The largest maxima of every channel of a step, best first, (candidates, channels) each:
    values, places of the images, flat positions."""

    values: NDArray[np.float64]
    places: NDArray[np.int64]
    positions: NDArray[np.int64]

    def and_then(self, other: _Best) -> _Best:
        """The best of both, at most `TOP_CROPS`, ties by place."""
        values, places, positions = (
            np.concatenate(pair)
            for pair in zip(vars(self).values(), vars(other).values(), strict=True)
        )
        order = np.lexsort((places, -values), axis=0)[:TOP_CROPS]
        columns = np.arange(values.shape[1])
        return _Best(values[order, columns], places[order, columns], positions[order, columns])


def channel_crops(layer: TracedLayer, images: Sequence[int], batches: Iterable[Tensor]) -> pa.Table:
    """`tables.CHANNELS` of the convolutions on the layer's axis.

    A maximum that is NaN or infinite counts for nothing; of a convolution that runs several times
    the largest of its calls counts.

    Args:
        layer: the layer.
        images: ids of the images.
        batches: the images in the same order, (batch, 3, height, width) at a time.
    """
    found: dict[str, _Best] = {}
    start = 0

    def look(step: Step, value: Tensor) -> None:
        if step.convolution not in layer.upstream.ordinals:
            return
        maxima, where = value.flatten(2).max(2)
        values = torch.where(maxima.isfinite(), maxima, -torch.inf).double().cpu().numpy()
        places = np.arange(start, start + len(values))[:, None] + np.zeros_like(values, np.int64)
        here = _Best(values, places, where.cpu().numpy())
        nothing = _Best(*(array[:0] for array in vars(here).values()))
        found[step.name] = found.get(step.name, nothing).and_then(here)

    with torch.no_grad():
        for batch in batches:
            layer.network.output(batch, look)
            start += len(batch)
    rows = [
        row
        for _, convolution, site in layer.pieces()
        for row in _rows(layer, convolution.name, [(name, found[name]) for name in site.steps])
    ]
    by_name = {column.name: [row[n] for row in rows] for n, column in enumerate(CHANNELS.columns)}
    # Of no crops, too, the places are whole numbers.
    by_name["image"] = np.asarray(images)[np.array(by_name["image"], np.int64)].tolist()
    return CHANNELS.from_columns(by_name)


def _rows(
    layer: TracedLayer, convolution: str, calls: Sequence[tuple[str, _Best]]
) -> Iterator[tuple[str | int | float, ...]]:
    """Rows of one convolution, with the image's place in place of its id."""
    steps = [layer.network.by_name[name] for name, _ in calls]
    fields = [receptive_fields(layer.network, step) for step in steps]
    for channel in range(steps[0].shape[0]):
        candidates = sorted(
            (-float(best.values[n, channel]), int(best.places[n, channel]), call, n)
            for call, (_, best) in enumerate(calls)
            for n in range(len(best.values))
        )
        taken: set[int] = set()
        for value, place, call, n in candidates:
            if place in taken or len(taken) == TOP_CROPS or not np.isfinite(value):
                continue
            y, x = divmod(int(calls[call][1].positions[n, channel]), steps[call].shape[2])
            (top, bottom), (left, right) = fields[call]
            box = (int(top[y]), int(left[x]), int(bottom[y]) + 1, int(right[x]) + 1)
            yield (convolution, channel, len(taken), place, -value, y, x, *box)
            taken.add(place)
