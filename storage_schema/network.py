"""What is stored of a layer's network, once for all its units: wiring, weights, top crops.

A worker writes it before its first unit of the layer, and `network.json`, which names the objects,
last. Workers that race put the same objects if absent, and each records what it finds there, so
whoever is first counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.commit import NamedObjects, StoredObject
from circuit_atlas.storage_schema.documents import seal, sha256
from circuit_atlas.storage_schema.errors import CorruptError, QueryError, RecordError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.kernels import Convolution
from circuit_atlas.storage_schema.network_tables import CHANNELS, WEIGHTS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.wiring import Wiring
from circuit_atlas.storage_schema.wording import REPAIR

TOP_CROPS = 4
"""Images of each channel in the channels table, at most."""


@dataclass(frozen=True)
class NetworkRecord:
    """A layer's network.

    Attributes:
        wiring: how the convolutions are joined.
        weights: for each convolution of the axis (out, in / groups, height, width) float32, or
            None where they are unknown.
        channels: `network_tables.CHANNELS`.
    """

    wiring: Wiring
    weights: tuple[NDArray[np.float32] | None, ...]
    channels: pa.Table


def is_stored(objects: Objects, layer: LayerIndex) -> bool:
    """Tell whether the layer's network is there."""
    return objects.exists(layer_paths.network(layer.layer))


def store(objects: Objects, layer: LayerIndex, compute: Callable[[], NetworkRecord]) -> None:
    """Computes and stores the layer's network, unless it is there.

    Raises:
        RecordError: it does not fit the layer.
        WriteError: the store refused; nothing stored was altered.
    """
    if is_stored(objects, layer):
        return
    record = compute()
    _check(record, layer)
    stored = []
    for path, data in (
        (layer_paths.wiring(layer.layer), record.wiring.to_json().encode()),
        (layer_paths.weights(layer.layer), _weights(record, layer)),
        (layer_paths.channels(layer.layer), CHANNELS.to_parquet(record.channels)),
    ):
        objects.put_if_absent(path, data)
        # Read back: another worker's may lie there, rounded otherwise.
        data = objects.get(path)
        stored.append(asdict(StoredObject(path, len(data), sha256(data))))
    objects.put_if_absent(layer_paths.network(layer.layer), seal({"objects": stored}).encode())


def named_objects(objects: Objects, path: str, data: bytes) -> tuple[StoredObject, ...]:
    """Return what the record of a layer's network names, which lies at `path`; CorruptError where
    it is altered, or another layer's."""
    named = NamedObjects.from_json(data, location=objects.at(path)).objects
    for stored in named:
        own = layer_paths.network_of_object(stored.path)
        require_own(objects, path, own, what=f"the record of {stored.path}")
    return named


def network_object(objects: Objects, layer: LayerIndex, path: str) -> bytes:
    """Return one object of the layer's network, held against its record.

    Raises:
        QueryError: no worker has begun with the layer.
        CorruptError: it, or its record, is missing, altered or another layer's.
    """
    record = layer_paths.network(layer.layer)
    try:
        named = named_objects(objects, record, objects.get(record))
    except FileNotFoundError as error:
        if objects.names(layer_paths.commits(layer.layer)):
            raise CorruptError(
                f"{error}, and the layer has units: restore it from a copy, or run the build again"
            ) from error
        raise QueryError(
            f"{objects.location} has nothing of the network of layer {layer.layer!r} yet, as no "
            "worker has begun with it: run the build"
        ) from None
    try:
        data = objects.get(path)
    except FileNotFoundError as error:
        raise CorruptError(f"{error}, and it is committed: {REPAIR}") from error
    if sha256(data) not in [stored.sha256 for stored in named if stored.path == path]:
        raise CorruptError(f"{objects.at(path)} is cut or altered: {REPAIR}")
    return data


def weights_of(
    table: pa.Table, layer: LayerIndex, *, location: str
) -> tuple[NDArray[np.float32] | None, ...]:
    """Read the weights of each convolution of the axis from `network_tables.WEIGHTS`,
    None where they are unknown; CorruptError where they are those of another axis."""
    convolutions = layer.index.convolutions
    if table["convolution"].to_pylist() != [convolution.name for convolution in convolutions]:
        raise CorruptError(f"{location} is of other convolutions than its layer: {REPAIR}")
    weights: list[NDArray[np.float32] | None] = []
    for convolution, row in zip(convolutions, table["values"], strict=True):
        flat = row.values.to_numpy(zero_copy_only=False) if row.is_valid else None
        shape = _shape(convolution)
        if flat is not None and flat.size != math.prod(shape):
            raise CorruptError(
                f"{location} has {flat.size:,} weights of {convolution.name!r}, and {shape} is its "
                f"shape: {REPAIR}"
            )
        weights.append(None if flat is None else flat.reshape(shape))
    return tuple(weights)


def check_channels(table: pa.Table, layer: LayerIndex, *, location: str) -> None:
    """Raise CorruptError where `network_tables.CHANNELS` has a channel that the layer's network has
    not."""
    counts = {
        convolution.name: convolution.out_channels for convolution in layer.index.convolutions
    }
    for name, channel in zip(
        *(table[n].to_pylist() for n in ("convolution", "channel")), strict=True
    ):
        if not 0 <= channel < counts.get(name, 0):
            raise CorruptError(
                f"{location} has channel {channel} of {name!r}, which the layer's network has not: "
                f"{REPAIR}"
            )


def _weights(record: NetworkRecord, layer: LayerIndex) -> bytes:
    convolutions = layer.index.convolutions
    return WEIGHTS.to_parquet(
        WEIGHTS.from_columns(
            {
                "convolution": [convolution.name for convolution in convolutions],
                "out_channels": [convolution.out_channels for convolution in convolutions],
                "in_channels": [convolution.in_channels for convolution in convolutions],
                "height": [convolution.kernel_size[0] for convolution in convolutions],
                "width": [convolution.kernel_size[1] for convolution in convolutions],
                "values": [None if array is None else array.ravel() for array in record.weights],
            }
        )
    )


def _shape(convolution: Convolution) -> tuple[int, int, int, int]:
    return (convolution.out_channels, convolution.in_channels, *convolution.kernel_size)


def _check(record: NetworkRecord, layer: LayerIndex) -> None:
    outside = record.wiring.outside(layer)
    if outside is not None:
        raise RecordError(
            f"the wiring of layer {layer.layer!r} has {outside}, which lies outside its "
            "convolutions; this is a fault of ours"
        )
    wanted = [_shape(convolution) for convolution in layer.index.convolutions]
    found = [None if array is None else array.shape for array in record.weights]
    if len(found) != len(wanted) or any(
        shape not in (None, expected) for shape, expected in zip(found, wanted, strict=True)
    ):
        raise RecordError(
            f"the weights of layer {layer.layer!r} are of shapes {found}: expected {wanted}; this "
            "is a fault of ours"
        )
