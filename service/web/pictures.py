"""The image set as the API serves it: facts in one table, pictures by id."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.web.errors import NotFoundError


@dataclass(frozen=True)
class ImageSet:
    """All images of an atlas.

    Attributes:
        table: one row an image, all columns but the picture; the row is the image's id.
        scoring: which of them are scoring images. Shape: (images,).
    """

    table: pa.Table
    scoring: NDArray[np.bool_]

    def __len__(self) -> int:
        return self.table.num_rows

    def facts(self, image: int) -> dict[str, Any]:
        """One row; NotFoundError where there is no such image."""
        self.check(image)
        return {name: self.table[name][image].as_py() for name in self.table.column_names}

    def check(self, image: int) -> None:
        """NotFoundError where there is no such image."""
        if not 0 <= image < len(self):
            raise NotFoundError(
                f"there is no image {image}: their ids go from 0 to {len(self) - 1}"
            )


class ServedImages:
    """Reads the image set once. The pictures are held as they are stored: JPEG."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._lock = threading.Lock()
        self._set: ImageSet | None = None
        self._pictures: pa.ChunkedArray | None = None

    @property
    def images(self) -> ImageSet:
        """All images."""
        return self.read()

    def read(self) -> ImageSet:
        """All images, from the store where they were not read before."""
        with self._lock:
            if self._set is None:
                table = self._atlas.images()
                splits = np.asarray(table["split"].to_pylist(), dtype=np.str_)
                self._set = ImageSet(table, splits == "scoring")
            return self._set

    def picture(self, image: int) -> bytes:
        """JPEG of an image; NotFoundError where there is no such image or it was left out."""
        self.images.check(image)
        with self._lock:
            if self._pictures is None:
                self._pictures = self._atlas.reader.images(columns=["picture"])["picture"]
            found = self._pictures[image].as_py()
        if found is None:
            raise NotFoundError(
                f"image {image} was left out: {self.images.facts(image)['problem']}"
            )
        data: bytes = found
        return data
