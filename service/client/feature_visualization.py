"""A feature visualization: an image made to drive a unit, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.visualizations import FeatureRecord


@dataclass(frozen=True, repr=False)
class FeatureVisualization:
    """Is one feature visualization; in a notebook it shows by itself.

    Attributes:
        record: what it was made for and how, and how it compares with the images.
    """

    record: FeatureRecord
    _reader: Reader

    @property
    def variant(self) -> str:
        """Return its name, such as `positive` or `negative.actgrad.0.3`."""
        return self.record.variant

    @cached_property
    def png(self) -> bytes:
        """Return the PNG; CorruptError where it is missing or altered."""
        return self._reader.visualization_image(self.record)

    def save(self, path: str | Path) -> Path:
        """Write the PNG into a file, or over one, whole or not at all.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: it is no path.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        write_whole(target, self.png)
        return target

    def __repr__(self) -> str:
        one = self.record
        images = "beyond every image" if one.beats_images else "not beyond every image"
        return (
            f"<FeatureVisualization {one.variant} of {one.layer}/{one.unit}: "
            f"{one.height} x {one.width} pixels, response {one.response:.4g}, {images} "
            f"({one.best_image_response:.4g})>"
        )

    def _repr_png_(self) -> bytes:
        return self.png
