"""What rows point to in other parts of an atlas: its images, its sparsity levels, a unit's ranks.

A table's own values are held against its columns as it is read, see `table_values`. What a row
points to has to be there too, or whoever follows it stumbles.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.version import NETWORK_SINCE
from circuit_atlas.storage_schema.wording import REPAIR


class References:
    """Holds rows of one atlas against it."""

    def __init__(self, header: AtlasHeader, images: Callable[[], int | None]) -> None:
        """`images` counts the atlas' images; None where their table cannot be read, which those
        are told who need it."""
        self._header, self._images = header, images

    def check(self, rows: pa.Table, columns: Sequence[Column], *, what: str) -> None:
        """Raise CorruptError where rows, under public names, point to an image or a sparsity level
        that the atlas has not; `what` names them in the message."""
        for column in columns:
            if column.numbers is None or column.name not in rows.column_names:
                continue
            values = rows[column.name]
            if pa.types.is_list(values.type):
                values = pc.list_flatten(values)
            largest = pc.max(values).as_py()
            count = self._count(column.numbers) if largest is not None else None
            if count is not None and largest >= count:
                raise CorruptError(
                    f"{what} names {column.numbers} {largest}, and the atlas has {count}: {REPAIR}"
                )

    def check_responses(self, responses: pa.Table, commit: Commit, *, what: str) -> None:
        """Raise CorruptError where there is no response of a unit, or the ranks do not number the
        top images that its commit record tells of."""
        if not responses.num_rows:
            raise CorruptError(f"{what} has no row: {REPAIR}")
        if commit.state != "done" or self._header.schema < NETWORK_SINCE:
            return
        ranks = np.sort(responses["rank"].drop_null().to_numpy())
        if not np.array_equal(ranks, np.arange(commit.top_images)):
            raise CorruptError(
                f"{what} ranks {len(ranks)} images, not from 0 on or not {commit.top_images} as "
                f"its record says: {REPAIR}"
            )

    def _count(self, what: str) -> int | None:
        return len(self._header.fractions) if what == "sparsity level" else self._images()
