"""A circuit as a JSON document, which the page of a unit's map writes too."""

from __future__ import annotations

import json
import math
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.circuit.chosen_kernels import KernelsOfModel
from circuit_atlas.service.circuit.kernel_table import ranked_kernels
from circuit_atlas.service.circuit.origin import Origin

MOST_BYTES = 2**30
"""A file that is longer is none: a circuit of five million kernels has half of that."""

_Whole = Annotated[int, Meta(ge=0, lt=2**31)]
_Text = Annotated[str, Meta(min_length=1, max_length=4096)]


class SavedImage(msgspec.Struct, frozen=True):
    """Names an image that a circuit was chosen for."""

    image: _Whole


class SavedKernel(msgspec.Struct, frozen=True):
    """Names a kernel; `score` is null where a union took it from its right side."""

    convolution: _Text
    out_channel: _Whole
    in_channel: _Whole
    score: float | None = None


class SavedOrigin(msgspec.Struct, frozen=True):
    """Says what a circuit was chosen for, and how."""

    layer: _Text
    unit: _Text | _Whole
    criterion: _Text
    images: tuple[SavedImage, ...] = ()


class SavedCircuit(msgspec.Struct, frozen=True):
    """Holds the document. `layer`, `unit`, `criterion` and `images` are those of the first unit
    that the circuit was chosen for; where it is a combination, `combined` has all of them."""

    model: _Text
    weights_sha256: _Text
    layer: _Text
    unit: _Text | _Whole
    criterion: _Text
    kernels: tuple[SavedKernel, ...]
    images: tuple[SavedImage, ...] = ()
    combined: tuple[SavedOrigin, ...] = ()
    name: str | None = None

    @property
    def origins(self) -> tuple[SavedOrigin, ...]:
        """Return all that it was chosen for."""
        return self.combined or (SavedOrigin(self.layer, self.unit, self.criterion, self.images),)


def read(data: bytes) -> SavedCircuit:
    """Read a document; ValueError, with what is wrong, where it is none."""
    try:
        return msgspec.json.decode(data, type=SavedCircuit)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from error


class SavableCircuit(KernelsOfModel, Protocol):
    """Is what is saved of a circuit, see `Circuit`."""

    def by_convolution(self) -> AtlasTable:
        """Count the kernels of each convolution."""


def to_json(circuit: SavableCircuit) -> bytes:
    """Write a circuit that was chosen for a unit, or a combination of such."""
    first = circuit.origins[0]
    alone = len(circuit.origins) == 1 and first.alone
    scores = [s if s is None or math.isfinite(s) else None for s in circuit.scores.tolist()]
    kernels = ranked_kernels(circuit).select(["convolution", "out_channel", "in_channel"])
    document = {
        "name": circuit.title,
        "model": circuit.model,
        "weights_sha256": circuit.weights_sha256,
        **_choice(first),
        "combined": [] if alone else [_choice(origin) for origin in circuit.origins],
        "reachable_kernels": len(circuit.reachable),
        "layers": circuit.by_convolution().to_pylist(),
        "kernels": [
            {**row, "score": score} for row, score in zip(kernels.to_pylist(), scores, strict=True)
        ],
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode()


def _choice(origin: Origin) -> dict[str, object]:
    return {
        "layer": origin.layer.layer,
        "unit": origin.unit.name,
        "criterion": origin.criterion,
        "images": [{"image": image} for image in origin.images],
    }
