"""What is stored of the networks of an atlas' layers, read: wiring, weights, crops, directions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import layer_paths, network_tables
from circuit_atlas.storage_schema.directions import Direction, Directions
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.network import check_channels, network_object, weights_of
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.wiring import Wiring
from circuit_atlas.storage_schema.wording import REPAIR


class StoredNetworks:
    """Reads what a layer has once for all its units, and keeps it, as it never changes."""

    def __init__(self, objects: Objects, get: Callable[[str], bytes]) -> None:
        """Read nothing yet; `get` returns the bytes of an object that every atlas has, CorruptError
        where it has not."""
        self._objects, self._get = objects, get
        self._wirings: dict[str, Wiring] = {}
        self._weights: dict[str, tuple[NDArray[np.float32] | None, ...]] = {}
        self._channels: dict[str, pa.Table] = {}
        self._directions: dict[str, Directions] = {}

    def wiring(self, index: LayerIndex) -> Wiring:
        """Tell which channels of the layer's network feed which.

        Raises:
            QueryError: no worker has begun with the layer; as of the two that follow.
            CorruptError: it is missing or altered.
        """
        if index.layer not in self._wirings:
            path = layer_paths.wiring(index.layer)
            data = network_object(self._objects, index, path)
            wiring = Wiring.from_json(data, location=self._objects.at(path))
            if (outside := wiring.outside(index)) is not None:
                raise CorruptError(
                    f"{self._objects.at(path)} has {outside}, which lies outside the layer's "
                    f"convolutions: {REPAIR}"
                )
            self._wirings[index.layer] = wiring
        return self._wirings[index.layer]

    def weights(self, index: LayerIndex) -> tuple[NDArray[np.float32] | None, ...]:
        """Return the weights of each convolution of the axis, each (out_channels, in_channels per
        group, height, width), None where unknown. Read-only."""
        if index.layer not in self._weights:
            path = layer_paths.weights(index.layer)
            data = network_object(self._objects, index, path)
            location = self._objects.at(path)
            table = network_tables.WEIGHTS.from_parquet(data, location=location)
            # Those of one layer at a time: of a large network they are many.
            self._weights = {index.layer: weights_of(table, index, location=location)}
        return self._weights[index.layer]

    def channels(self, index: LayerIndex) -> pa.Table:
        """Tell where each convolution's channels are largest: `network_tables.CHANNELS`."""
        if index.layer not in self._channels:
            path = layer_paths.channels(index.layer)
            data = network_object(self._objects, index, path)
            location = self._objects.at(path)
            table = network_tables.CHANNELS.from_parquet(data, location=location)
            check_channels(table, index, location=location)
            self._channels[index.layer] = table
        return self._channels[index.layer]

    def direction(self, index: LayerIndex, unit: int) -> Direction | None:
        """Return the weights, bias and activation of a direction; None for a channel.

        Raises:
            QueryError: the layer has no such unit.
            CorruptError: the layer's directions are missing or altered.
        """
        info = index.unit(unit)
        if not index.is_direction(info):
            return None
        if info.direction is not None:
            return Direction(np.asarray(info.direction), 0.0, "none")
        return self.directions(index).direction(unit - index.channels)

    def directions(self, index: LayerIndex) -> Directions:
        """Return the directions of a layer that came from a file; QueryError where none did.

        CorruptError where they are missing or altered.
        """
        if index.directions is None:
            raise QueryError(f"layer {index.layer!r} has no directions from a file")
        if index.layer not in self._directions:
            path = layer_paths.directions(index.layer)
            location = self._objects.at(path)
            table = network_tables.DIRECTIONS.from_parquet(self._get(path), location=location)
            found = Directions.of_table(
                table, index.direction_names, index.directions, location=location
            )
            # Those of one layer at a time: they are thousands.
            self._directions = {index.layer: found}
        return self._directions[index.layer]
