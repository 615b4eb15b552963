"""The image set as the API serves it: facts in one table, files by id."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.web.errors import NotFoundError

Box = tuple[int, int, int, int]
"""Top, left, bottom, right: pixels of the network's input, half-open."""


def box_of(row: Mapping[str, Any]) -> Box:
    """The receptive field of a row of responses."""
    return row["box_top"], row["box_left"], row["box_bottom"], row["box_right"]


@dataclass(frozen=True)
class ImageSet:
    """Holds the facts of all images of an atlas.

    Attributes:
        table: one row an image, all columns but the file; the row is the image's id.
    """

    table: pa.Table

    def __len__(self) -> int:
        return self.table.num_rows

    def facts(self, image: int) -> dict[str, Any]:
        """Return one row; NotFoundError where there is no such image."""
        self.check(image)
        return {name: self.table[name][image].as_py() for name in self.table.column_names}

    def check(self, image: int) -> None:
        """Raise NotFoundError where there is no such image."""
        if not 0 <= image < len(self):
            raise NotFoundError(
                f"there is no image {image}: their ids go from 0 to {len(self) - 1}"
            )


class ImageSetReader:
    """Reads the image set once."""

    def __init__(self, atlas: Atlas) -> None:
        self._atlas = atlas
        self._lock = threading.Lock()
        self._set: ImageSet | None = None

    def images(self) -> ImageSet:
        """Return the facts of all images, from the store where they were not read before."""
        with self._lock:
            if self._set is None:
                self._set = ImageSet(self._atlas.images().to_arrow())
            return self._set

    def file(self, image: int) -> bytes:
        """Return the JPEG of an image; NotFoundError where there is no such image or it was left
        out."""
        images = self.images()
        images.check(image)
        data = self._atlas.reader.jpegs([image])[image]
        if data is None:
            raise NotFoundError(f"image {image} was left out: {images.facts(image)['problem']}")
        return data
