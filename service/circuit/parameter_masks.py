"""What a circuit keeps of each parameter of its model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import Convolution


def parameter_masks(
    convolutions: Sequence[Convolution], grids: Sequence[NDArray[np.bool_]]
) -> dict[str, NDArray[np.bool_]]:
    """Name what is kept of each convolution by the parameter that holds its weight, see
    `Circuit.masks`.

    Args:
        convolutions: the circuit's.
        grids: of each, (out channels, in channels of a group) bool.

    Raises:
        QueryError: a convolution computes its weight, or two share one parameter.
    """
    masks: dict[str, NDArray[np.bool_]] = {}
    for convolution, grid in zip(convolutions, grids, strict=True):
        if convolution.weight is None:
            raise QueryError(
                f"the weight of {convolution.name!r} is computed anew at each call, so no "
                "parameter holds its kernels"
            )
        if convolution.weight in masks:
            raise QueryError(
                f"{convolution.name!r} shares its weight {convolution.weight!r} with another "
                "convolution, so one mask cannot tell what is kept of both"
            )
        masks[convolution.weight] = grid
    return masks
