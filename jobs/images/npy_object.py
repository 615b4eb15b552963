"""An array in a `.npy` file of an object store, read row by row."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.images.named_files import still_there
from circuit_atlas.jobs.images.object_files import ObjectFile
from circuit_atlas.storage_schema.errors import ImageError

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyObject:
    """Reads rows of an array, several that follow each other at once.

    Attributes:
        shape: of the array.
        dtype: of its numbers.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __init__(self, file: ObjectFile) -> None:
        """Reads the array's header.

        Raises:
            ValueError: it is no `.npy` file, or cut short.
            ImageError: its numbers do not lie row by row.
            OSError, InfrastructureError: as of `Bucket.read`.
        """
        self._file, self._stream = file, file.open("rb")
        version = np.lib.format.read_magic(self._stream)
        if version not in _HEADERS:
            raise ValueError(f"it is of version {version}")
        self.shape, by_column, self.dtype = _HEADERS[version](self._stream)
        if by_column and len(self.shape) > 1:
            raise ImageError(
                f"the array {str(file)!r} lies in Fortran's order, so that no image can be read by "
                "itself: write numpy.ascontiguousarray(array)"
            )
        self._start = self._stream.tell()
        self._row_bytes = math.prod(self.shape[1:]) * self.dtype.itemsize
        if self._start + math.prod(self.shape) * self.dtype.itemsize > file.size_bytes:
            raise ValueError("it is cut short")

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Reads some rows that follow each other; errors as of `ObjectFile.read_range`, and
        InfrastructureError where the file is gone."""
        first, last, _ = rows.indices(self.shape[0])
        with still_there(self._file):
            self._stream.seek(self._start + first * self._row_bytes)
            data = self._stream.read((last - first) * self._row_bytes)
        return np.frombuffer(data, self.dtype).reshape(last - first, *self.shape[1:])
