"""A map that is the same for every image, kept small: all but its borders repeats itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

# Rounding of sums whose order differs from position to position, as a share of a channel's largest.
_ROUNDING = 4


class ConstantMap(nn.Module):
    """Gives a constant map; rows and columns that repeat the one before are stored once."""

    values: Tensor
    rows: Tensor
    columns: Tensor

    def __init__(self, values: Tensor) -> None:
        """Takes the map, (1, channels, height, width)."""
        super().__init__()
        rows, columns = _runs(values, 2), _runs(values, 3)
        first_rows, first_columns = (torch.unique_consecutive(each) for each in (rows, columns))
        core = values.index_select(2, first_rows).index_select(3, first_columns)
        self.register_buffer("values", core.clone())
        self.register_buffer("rows", torch.searchsorted(first_rows, rows))
        self.register_buffer("columns", torch.searchsorted(first_columns, columns))

    def forward(self) -> Tensor:
        """Gives the map, (1, channels, height, width)."""
        return self.values.index_select(2, self.rows).index_select(3, self.columns)


def _runs(values: Tensor, axis: int) -> Tensor:
    """For each row or column, the first of those side by side that are the same: (extent,)."""
    slack = _ROUNDING * torch.finfo(values.dtype).eps * values.abs().amax((2, 3), keepdim=True)
    first = 0
    found = [0]
    for at in range(1, values.shape[axis]):
        difference = values.select(axis, at) - values.select(axis, first)
        if not (difference.abs() <= slack[..., 0]).all():
            first = at
        found.append(first)
    return torch.tensor(found, device=values.device)
