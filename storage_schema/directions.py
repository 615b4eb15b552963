"""Directions over a layer's channels, each one more unit of the layer.

Let x (channels, h, w) be what the layer passes on, as `activation` of its `[[layers]]` table says.
A direction of weights d and bias b is the unit

    y = d . x + b            at each position, with the activation "none"
    y = max(0, d . x + b)    with "relu"

So the encoder of a sparse autoencoder is a file of directions: a feature is a unit. A few may stand
in the spec, and then in `layer.json`; those of a file are stored in an object of their own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.bounds import Sha256
from circuit_atlas.storage_schema.errors import CorruptError, ModelError
from circuit_atlas.storage_schema.network_tables import DIRECTIONS
from circuit_atlas.storage_schema.wording import REPAIR

SumActivation = Literal["none", "relu"]


@dataclass(frozen=True)
class DirectionsRecord:
    """Says what stands in a layer's `directions.parquet`."""

    activation: Annotated[SumActivation, "What each direction ends in: none, relu."]
    sha256: Annotated[
        Sha256, "SHA-256 of weights and biases, float32, one direction after another."
    ]


@dataclass(frozen=True)
class Direction:
    """Holds one direction.

    Attributes:
        vector: (channels,) its weights.
        bias: what is added.
        activation: what it ends in.
    """

    vector: NDArray[np.floating]
    bias: float
    activation: SumActivation


@dataclass(frozen=True, eq=False)
class Directions:
    """Holds all directions of a layer, in the order of their units.

    Attributes:
        names: of each.
        vectors: (directions, channels) floating.
        bias: (directions,) floating.
        activation: what each ends in.
        in_layer: whether they stand in `layer.json`; else in an object of their own.
    """

    names: tuple[str, ...]
    vectors: NDArray[np.floating]
    bias: NDArray[np.floating]
    activation: SumActivation = "none"
    in_layer: bool = False

    def __len__(self) -> int:
        """Count the directions."""
        return len(self.names)

    @classmethod
    def of_spec(cls, vectors: Mapping[str, Sequence[float]], channels: int) -> Directions:
        """Take the directions of a spec's table, each without bias and activation.

        ModelError where one is not over so many channels.
        """
        for name, vector in vectors.items():
            if len(vector) != channels:
                raise ModelError(
                    f"direction {name!r} is of length {len(vector)} and the layer has {channels} "
                    f"channels: give {channels} finite numbers, not all zero"
                )
        matrix = np.array(list(vectors.values()), dtype=np.float64).reshape(-1, channels)
        return cls(tuple(vectors), matrix, np.zeros(len(matrix)), in_layer=True)

    @classmethod
    def none(cls, channels: int) -> Directions:
        """Give no direction over so many channels."""
        return cls.of_spec({}, channels)

    def check(self) -> None:
        """Raise ModelError, naming the direction, where a number is not finite or all are zero."""
        usable = np.isfinite(self.vectors).all(1) & np.isfinite(self.bias) & self.vectors.any(1)
        if not usable.all():
            name = self.names[int((~usable).argmax())]
            raise ModelError(
                f"direction {name!r}: its weights are all zero, or a number is not finite; give "
                f"{self.vectors.shape[1]} finite numbers, not all zero, or leave it out"
            )

    def record(self) -> DirectionsRecord | None:
        """Return what `layer.json` says of the object; None where there is no such object."""
        if self.in_layer:
            return None
        return DirectionsRecord(self.activation, self.sha256())

    def sha256(self) -> str:
        """Compute the fingerprint of weights and biases, in hexadecimal."""
        table = np.concatenate([self.vectors, self.bias[:, None]], 1).astype("<f4")
        return hashlib.sha256(table.tobytes()).hexdigest()

    def table(self) -> pa.Table:
        """Make the table `network_tables.DIRECTIONS`."""
        return DIRECTIONS.from_columns(
            {
                "bias": list(self.bias.astype(np.float32)),
                "values": list(self.vectors.astype(np.float32)),
            }
        )

    @classmethod
    def of_table(
        cls, table: pa.Table, names: Sequence[str], record: DirectionsRecord, *, location: str
    ) -> Directions:
        """Read what `table` made; CorruptError where it is not what was recorded."""
        flat = table["values"].combine_chunks().flatten().to_numpy()
        vectors = flat.reshape(len(names), -1) if len(names) == len(table) else flat[None]
        bias = table["bias"].to_numpy()
        found = cls(tuple(names), vectors, bias, record.activation)
        if len(vectors) != len(bias) or found.sha256() != record.sha256:
            raise CorruptError(f"{location} is cut or altered: {REPAIR}")
        return found

    def direction(self, number: int) -> Direction:
        """Return one of them, counted from 0."""
        return Direction(self.vectors[number], float(self.bias[number]), self.activation)
