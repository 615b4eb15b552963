"""Crops of images that show where each channel of the convolutions upstream responds most."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

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
        images: of the same shape, the id of each maximum's image.
        argmax: of the same shape, the flat position of each maximum.
    """

    values: NDArray[np.float64]
    images: NDArray[np.int64]
    argmax: NDArray[np.int64]

    def merged(self, other: _LargestMaxima) -> _LargestMaxima:
        """The largest of both, at most `TOP_CROPS`, ties by image."""
        values, images, argmax = (
            np.concatenate(pair)
            for pair in zip(vars(self).values(), vars(other).values(), strict=True)
        )
        order = np.lexsort((images, -values), axis=0)[:TOP_CROPS]
        columns = np.arange(values.shape[1])
        return _LargestMaxima(
            values[order, columns], images[order, columns], argmax[order, columns]
        )


class ChannelMaxima:
    """Sees images go through the network of some layers, and keeps where each channel of the
    convolutions on their axes is largest.

    A maximum that is NaN or infinite counts for nothing. Where a convolution runs several times,
    the largest maximum of its calls counts.
    """

    def __init__(self, layers: Sequence[TracedLayer]) -> None:
        """Takes the layers, of one model."""
        sites = [site for layer in layers for _, _, site in layer.pieces()]
        self._steps = {name for site in sites for name in site.steps}
        self._largest: dict[str, _LargestMaxima] = {}

    def see(self, step: Step, value: Tensor, rows: Sequence[int], images: Sequence[int]) -> None:
        """Looks at the result of a step, (batch, channels, height, width), for those images of the
        batch, with these ids."""
        if step.name not in self._steps or not rows:
            return
        maps = value.flatten(2)
        if len(rows) < len(maps):
            maps = maps[list(rows)]
        values = maps.amax(2).cpu().numpy()
        kept = self._largest.get(step.name)
        enough = kept is not None and len(kept.values) == TOP_CROPS
        # Soon most maxima are none of the largest, and where they lie is not looked for.
        least = kept.values[-1] if kept is not None and enough else -np.inf
        chosen = (values >= least) & (values < np.inf)
        if enough and not chosen.any():
            return
        argmax = np.zeros(values.shape, np.int64)
        image, channel = (torch.from_numpy(where).to(maps.device) for where in chosen.nonzero())
        argmax[chosen] = maps[image, channel].argmax(1).cpu().numpy()
        here = _LargestMaxima(
            np.where(chosen, values.astype(np.float64), -np.inf),
            np.broadcast_to(np.asarray(images, np.int64)[:, None], values.shape),
            argmax,
        )
        nothing = _LargestMaxima(*(array[:0] for array in vars(here).values()))
        self._largest[step.name] = (kept or nothing).merged(here)

    def table(self, layer: TracedLayer) -> pa.Table:
        """Makes the table `network_tables.CHANNELS` of one of the layers, of all images seen."""
        rows = [
            row
            for _, convolution, site in layer.pieces()
            if set(site.steps) <= self._largest.keys()
            for row in _rows(
                layer, convolution.name, [(name, self._largest[name]) for name in site.steps]
            )
        ]
        return CHANNELS.from_columns(
            {column.name: [row[n] for row in rows] for n, column in enumerate(CHANNELS.columns)}
        )


def channel_crops(layer: TracedLayer, images: Sequence[int], batches: Iterable[Tensor]) -> pa.Table:
    """Makes the table `network_tables.CHANNELS` of a layer in one forward pass.

    Args:
        layer: the layer.
        images: ids of the images.
        batches: the images in the same order, (batch, channels, height, width) at a time.
    """
    maxima, start = ChannelMaxima([layer]), 0
    with torch.no_grad():
        for batch in batches:
            of_batch = images[start : start + len(batch)]
            seen = partial(maxima.see, rows=range(len(batch)), images=of_batch)
            layer.network.output(batch, seen)
            start += len(batch)
    return maxima.table(layer)


def merged_crops(tables: Iterable[pa.Table]) -> pa.Table:
    """Makes the one `network_tables.CHANNELS` of those of several parts of the images, of which
    it holds one at a time."""
    found = CHANNELS.stored_schema.empty_table()
    names: dict[str, int] = {}
    for table in tables:
        for name in table["convolution"].unique().to_pylist():
            names.setdefault(name, len(names))
        both = pa.concat_tables([found, table])
        ordinals = np.array([names[name] for name in both["convolution"].to_pylist()], np.int64)
        channels, images = (both[name].to_numpy() for name in ("channel", "image"))
        order = np.lexsort((images, -both["maximum"].to_numpy(), channels, ordinals))
        channel = ordinals[order] * (1 + channels.max(initial=0)) + channels[order]
        starts = np.flatnonzero(np.diff(channel, prepend=-1))
        rank = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
        kept = both.take(order[rank < TOP_CROPS])
        ranks = pa.array(rank[rank < TOP_CROPS], CHANNELS.stored_schema.field("rank").type)
        found = kept.set_column(2, CHANNELS.stored_schema.field("rank"), ranks)
    return found.combine_chunks()


def _rows(
    layer: TracedLayer, convolution: str, calls: Sequence[tuple[str, _LargestMaxima]]
) -> Iterator[tuple[str | int | float, ...]]:
    """Rows of one convolution."""
    steps = [layer.network.by_name[name] for name, _ in calls]
    fields = [receptive_fields(layer.network, step) for step in steps]
    for channel in range(steps[0].shape[0]):
        candidates = sorted(
            (-float(maxima.values[n, channel]), int(maxima.images[n, channel]), call, n)
            for call, (_, maxima) in enumerate(calls)
            for n in range(len(maxima.values))
        )
        taken: set[int] = set()
        for value, image, call, n in candidates:
            if image in taken or len(taken) == TOP_CROPS or not np.isfinite(value):
                continue
            y, x = divmod(int(calls[call][1].argmax[n, channel]), steps[call].shape[2])
            (top, bottom), (left, right) = fields[call]
            box = (int(top[y]), int(left[x]), int(bottom[y]) + 1, int(right[x]) + 1)
            yield (convolution, channel, len(taken), image, -value, y, x, *box)
            taken.add(image)
