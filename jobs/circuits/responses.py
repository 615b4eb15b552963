"""What each image does to a unit: its response, its maximum, and its rank among the top images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.engine.targets import Response, respond
from circuit_atlas.jobs.network.receptive_field import Interval
from circuit_atlas.storage_schema.records import ResponseRow, Split
from circuit_atlas.storage_schema.sample import Why


def responses_of(maps: NDArray[np.float32], response: Response) -> NDArray[np.float32]:
    """Computes r of every map: (..., height, width) -> (...)."""
    numbers: NDArray[np.float32] = respond(torch.from_numpy(maps), response).numpy()
    return numbers


def top_images(responses: NDArray[np.floating], indices: Sequence[int], count: int) -> list[int]:
    """Ranks images by response, largest first, ties in the order given; keeps `count` of them.

    Args:
        responses: (images,).
        indices: those among the images to rank.
        count: how many to keep, at most.

    Returns:
        Indices of the top images by rank.
    """
    order = np.argsort(-responses[list(indices)], kind="stable")[:count]
    return [indices[n] for n in order]


def response_rows(
    maps: NDArray[np.floating],
    responses: NDArray[np.floating],
    *,
    images: Sequence[int],
    splits: Sequence[Split],
    drawn: Sequence[Why | None],
    top: Sequence[int],
    fields: tuple[Interval, Interval],
) -> tuple[ResponseRow, ...]:
    """Makes the rows that say what every image does to one unit.

    Args:
        maps: (images, height, width), the unit's maps.
        responses: (images,), r(y) of each.
        images: their ids.
        splits: the split of each.
        drawn: why each is among the unit's images; None where all are.
        top: indices of the top images, by rank.
        fields: the layer's receptive fields by row and by column, both ends included.
    """
    (top_edge, bottom_edge), (left_edge, right_edge) = fields
    rows = []
    for index, image in enumerate(images):
        y, x = np.unravel_index(int(maps[index].argmax()), maps[index].shape)
        rows.append(
            ResponseRow(
                image=image,
                split=splits[index],
                response=float(responses[index]),
                maximum=float(maps[index, y, x]),
                position_y=int(y),
                position_x=int(x),
                box_top=int(top_edge[y]),
                box_left=int(left_edge[x]),
                box_bottom=int(bottom_edge[y]) + 1,
                box_right=int(right_edge[x]) + 1,
                rank=top.index(index) if index in top else None,
                drawn=drawn[index],
            )
        )
    return tuple(rows)
