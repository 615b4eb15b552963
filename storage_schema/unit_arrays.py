"""The arrays of single units: a chunk a unit and array, of the attempt that its commit names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema import arrays, layout
from circuit_atlas.storage_schema.arrays import ArraySpec
from circuit_atlas.storage_schema.chunks import ChunkArray
from circuit_atlas.storage_schema.commit import Commit, Form
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.quantise import dequantise


class UnitArrays:
    """Reads the arrays of an atlas' layers; each is opened once."""

    def __init__(self, objects: Objects, header: AtlasHeader) -> None:
        self._objects = objects
        self._header = header
        self._arrays: dict[str, ChunkArray] = {}

    def chunk(
        self, index: LayerIndex, commit: Commit, spec: ArraySpec, criterion: str | None = None
    ) -> NDArray[Any]:
        """Return a unit's chunk of an array; CorruptError where it is missing, cut or altered."""
        path = layout.array(commit.layer, spec.name, criterion)
        if path not in self._arrays:
            shape = spec.shape(self._header, index, criterion)
            self._arrays[path] = ChunkArray(self._objects, path, shape=shape, dtype=spec.dtype)
        return self._arrays[path].read(commit.unit, commit.attempt)

    def circuits(self, index: LayerIndex, commit: Commit, criterion: str) -> Circuits:
        """Return a unit's circuits; QueryError where it has none by the criterion."""
        form = commit.form(criterion)
        spec = arrays.LEVEL if form == "level" else arrays.PACKED
        return Circuits(form, self.chunk(index, commit, spec, criterion), index.index.size)

    def image_scores(
        self, index: LayerIndex, commit: Commit, criterion: str
    ) -> NDArray[np.float32]:
        """Return a unit's scores on each top image, by rank; the criterion is one that has such.

        Shape: (top images, kernels).
        """
        codes = self.chunk(index, commit, arrays.IMAGE_SCORE, criterion)[: commit.top_images]
        scale = self.chunk(index, commit, arrays.IMAGE_SCALE, criterion)[: commit.top_images]
        return dequantise(codes, scale)


class Circuits:
    """Holds the circuits of a unit and criterion, one for each kept fraction."""

    def __init__(self, form: Form, chunk: NDArray[np.uint8], kernels: int) -> None:
        """`chunk`: as stored by that form, or the same flat."""
        self.form = form
        self.chunk = chunk
        self._kernels = kernels

    def mask(self, level: int) -> NDArray[np.bool_]:
        """Return the circuit of one kept fraction. Shape: (kernels,)."""
        if self.form == "level":
            return self.chunk > level
        bits = self.chunk.reshape(-1, -(-self._kernels // 8))[level]
        return np.unpackbits(bits, count=self._kernels, bitorder="little").astype(np.bool_)

    def levels(self) -> NDArray[np.uint8]:
        """Tell how many of the circuits hold each kernel. Shape: (kernels,)."""
        if self.form == "level":
            return self.chunk
        bits = self.chunk.reshape(-1, -(-self._kernels // 8))
        masks = np.unpackbits(bits, axis=1, count=self._kernels, bitorder="little")
        counts: NDArray[np.uint8] = masks.sum(axis=0, dtype=np.uint8)
        return counts
