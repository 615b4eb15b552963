"""The arrays of single units: a chunk a unit and array, of the attempt that its commit names."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.storage_schema import arrays, fragments, layer_paths
from circuit_atlas.storage_schema.arrays import ArraySpec
from circuit_atlas.storage_schema.chunks import ChunkArray
from circuit_atlas.storage_schema.commit import Commit, Form
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.quantise import dequantise
from circuit_atlas.storage_schema.unit_tables import GROUPS


class UnitArrays:
    """Reads the arrays of an atlas' layers."""

    def __init__(self, objects: Objects, header: AtlasHeader) -> None:
        self._objects = objects
        self._header = header

    def chunk(
        self, index: LayerIndex, commit: Commit, spec: ArraySpec, criterion: str | None = None
    ) -> NDArray[Any]:
        """Return a unit's chunk of an array, read-only; CorruptError where it is missing, cut or
        altered, or another's."""
        path = layer_paths.array(commit.layer, spec.name, criterion)
        shape = spec.shape(self._header, index, criterion)
        return ChunkArray(self._objects, path, shape=shape, dtype=spec.dtype).read(commit)

    def scores(self, index: LayerIndex, commit: Commit, criterion: str) -> NDArray[np.float32]:
        """Return a unit's scores, NaN where a kernel cannot reach it. Shape: (runs, kernels);
        QueryError where it has none by the criterion, as of the others."""
        commit.form(criterion)
        return self.chunk(index, commit, arrays.SCORE, criterion)

    def circuits(self, index: LayerIndex, commit: Commit, criterion: str) -> Circuits:
        """Return a unit's circuits; QueryError where it has none by the criterion."""
        form = commit.form(criterion)
        spec = arrays.LEVEL if form == "level" else arrays.PACKED
        return Circuits(form, self.chunk(index, commit, spec, criterion), index.index.size)

    def image_scores(
        self, index: LayerIndex, commit: Commit, criterion: str
    ) -> NDArray[np.float32]:
        """Return a unit's scores on each top image, by rank. Shape: (top images, kernels).

        To within `quantise.RELATIVE_ERROR`. QueryError where the criterion has none.
        """
        commit.form(criterion)
        if criterion not in self._header.image_criteria:
            raise QueryError(
                f"{criterion!r} has no scores for single images: choose from "
                f"{', '.join(self._header.image_criteria) or 'none'}"
            )
        codes = self.chunk(index, commit, arrays.IMAGE_SCORE, criterion)[: commit.top_images]
        scale = self.chunk(index, commit, arrays.IMAGE_SCALE, criterion)[: commit.top_images]
        return dequantise(codes, scale)

    def stability(self, index: LayerIndex, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell in how many draws each kernel is in the circuit of each kept fraction, of as many as
        the header's `redrawn` says. Shape: (fractions, kernels).

        QueryError where the criterion's circuits were not drawn anew.
        """
        commit.form(criterion)
        known = [name for name, _ in self._header.redrawn]
        if criterion not in known:
            raise QueryError(
                f"no stability of {criterion!r} is stored: choose from {', '.join(known) or 'none'}"
            )
        return self.chunk(index, commit, arrays.STABILITY, criterion)

    def group_levels(self, index: LayerIndex, commit: Commit, criterion: str) -> NDArray[np.uint8]:
        """Tell how many sparsity levels' circuits of each sub-feature group hold each kernel, by a
        criterion of the header's `grouped`. Shape: (groups, kernels).

        A unit of one group has none: its own circuits are the group's. QueryError where nothing of
        the kind is stored.
        """
        commit.form(criterion)
        if criterion not in self._header.grouped:
            known = ", ".join(self._header.grouped) or "none"
            raise QueryError(
                f"no circuits of groups by {criterion!r} are stored: choose from {known}"
            )
        columns = ["criterion", "groups"]
        (rows,) = fragments.read(self._objects, [commit], GROUPS, columns=columns)
        count = next(row["groups"] for row in rows.to_pylist() if row["criterion"] == criterion)
        if count == 1:
            raise QueryError(
                f"unit {commit.unit} of {commit.layer} has one group by {criterion!r}: no circuits "
                "but the unit's own are stored"
            )
        return self.chunk(index, commit, arrays.GROUP_LEVEL, criterion)[:count]

    def contribution(self, index: LayerIndex, commit: Commit) -> NDArray[np.float32]:
        """Return the signed contribution of each kernel to the response, NaN where a kernel cannot
        reach the unit. Shape: (kernels,). QueryError for a dead unit."""
        commit.require_circuit()
        return self.chunk(index, commit, arrays.CONTRIBUTION)

    def response_maps(self, index: LayerIndex, commit: Commit) -> NDArray[np.float32]:
        """Return the unit's output on each of its top images, by rank. Shape: (top images, height,
        width). QueryError for a dead unit."""
        commit.require_circuit()
        return self.chunk(index, commit, arrays.RESPONSE_MAP)[: commit.top_images]


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
