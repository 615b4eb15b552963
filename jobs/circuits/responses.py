"""Sub-features: a unit's top images, and how well the circuit of each preserves that image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.network.receptive_field import Interval
from circuit_atlas.storage_schema.records import ResponseRow, Split


def top_places(responses: NDArray[np.floating], places: Sequence[int], count: int) -> list[int]:
    """The `count` of `places` with the largest response, largest first, ties by place."""
    order = np.argsort(-responses[list(places)], kind="stable")[:count]
    return [places[n] for n in order]


def response_rows(
    maps: NDArray[np.floating],
    responses: NDArray[np.floating],
    *,
    images: Sequence[int],
    splits: Sequence[Split],
    top: Sequence[int],
    fields: tuple[Interval, Interval],
) -> tuple[ResponseRow, ...]:
    """What every image does to one unit.

    Args:
        maps: (images, height, width), the unit's maps.
        responses: (images,), r(y) of each.
        images: their ids.
        splits: the split of each.
        top: places of the top images, by rank.
        fields: the layer's receptive fields by row and by column, both ends included.
    """
    (top_edge, bottom_edge), (left_edge, right_edge) = fields
    rows = []
    for place, image in enumerate(images):
        y, x = np.unravel_index(int(maps[place].argmax()), maps[place].shape)
        rows.append(
            ResponseRow(
                image=image,
                split=splits[place],
                response=float(responses[place]),
                maximum=float(maps[place, y, x]),
                position_y=int(y),
                position_x=int(x),
                box_top=int(top_edge[y]),
                box_left=int(left_edge[x]),
                box_bottom=int(bottom_edge[y]) + 1,
                box_right=int(right_edge[x]) + 1,
                rank=top.index(place) if place in top else None,
            )
        )
    return tuple(rows)
