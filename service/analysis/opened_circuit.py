"""A saved circuit, opened with the atlas that it is of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.units import find_unit, stored_commit
from circuit_atlas.service.circuit import saved_circuit
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.circuit.kernel_ids import merged_index, moved
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.saved_circuit import SavedCircuit, SavedKernel
from circuit_atlas.service.circuit.saved_file import path_of
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import in_words, nearest


def open_circuit(reader: Reader, path: str | Path) -> Circuit:
    """Read what `Circuit.save` wrote, or the map of a unit's page; see `Atlas.load_circuit`."""
    file = path_of(path)
    try:
        size_bytes = file.stat().st_size
        if size_bytes > saved_circuit.MOST_BYTES:
            raise QueryError(
                f"{str(file)!r} has {size_bytes:,} bytes, and a circuit "
                f"{saved_circuit.MOST_BYTES:,} at most: give a file that circuit.save wrote"
            )
        saved = saved_circuit.read(file.read_bytes())
    except (OSError, ValueError) as error:
        why = in_words(error) if isinstance(error, OSError) else str(error)
        raise QueryError(
            f"{str(file)!r} holds no circuit ({why}): give a JSON file that circuit.save or the "
            "map of a unit's page wrote"
        ) from error
    if saved.weights_sha256 != reader.header.weights_sha256:
        raise QueryError(
            f"{str(file)!r} is a circuit of {saved.model} with weights "
            f"{saved.weights_sha256[:12]}, and {reader.objects.location} of "
            f"{reader.header.model} with {reader.header.weights_sha256[:12]}: open it with the "
            "atlas that it was saved from"
        )
    return _circuit(reader, saved, name=str(file))


def _circuit(reader: Reader, saved: SavedCircuit, *, name: str) -> Circuit:
    origins = _origins(reader, saved)
    index = origins[0].layer.index
    for origin in origins[1:]:
        index = merged_index(index, origin.layer.index)
    ordinal, local = _located(index, saved.kernels, name=name)
    ids = np.asarray(index.full_offsets, np.int64)[ordinal] + local
    order = np.argsort(ids, kind="stable")
    if len(np.unique(ids)) != len(ids):
        raise QueryError(f"{name!r} names a kernel twice: save the circuit again")
    positions = origins[0].positions(index, ordinal, local)
    scores = np.array([np.nan if k.score is None else k.score for k in saved.kernels], np.float32)
    positions[np.isnan(scores)] = -1
    reachable = np.zeros(index.full_offsets[-1], np.bool_)
    for origin in origins:
        reachable[_reachable(origin, index)] = True
    if not reachable[ids].all():
        raise QueryError(
            f"{name!r} has kernels that cannot reach {origins[0].name}: open it with the atlas "
            "that it was saved from"
        )
    return Circuit(
        title=saved.name or f"{origins[0].name} {origins[0].criterion}",
        model=reader.header.model,
        weights_sha256=reader.header.weights_sha256,
        index=index,
        ids=ids[order],
        reachable=np.flatnonzero(reachable),
        scores=scores[order],
        positions=positions[order],
        origins=origins,
    )


def _origins(reader: Reader, saved: SavedCircuit) -> tuple[Origin, ...]:
    known = reader.layers()
    origins = []
    for one in saved.origins:
        if one.layer not in known:
            raise QueryError(
                f"{reader.objects.location} has no layer {one.layer!r}, which the saved circuit is "
                f"of: {nearest(one.layer, known, what='layers')}"
            )
        layer = reader.layer(one.layer)
        unit = find_unit(layer, one.unit)
        commit = stored_commit(reader, layer, unit)
        criterion = arguments.criterion(reader, one.criterion)
        images = tuple(image.image for image in one.images)
        alone = not saved.combined
        origins.append(Origin(reader, layer, unit, commit, criterion, images, alone=alone))
    return tuple(origins)


def _located(
    index: KernelIndex, kernels: Sequence[SavedKernel], *, name: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The convolution of each kernel, and its position among all kernels of that one."""
    numbers = {convolution.name: n for n, convolution in enumerate(index.convolutions)}
    unknown = next((k for k in kernels if k.convolution not in numbers), None)
    if unknown is not None:
        raise QueryError(
            f"{name!r} has a kernel of {unknown.convolution!r}: "
            + nearest(unknown.convolution, numbers, what="convolutions")
        )
    ordinal = np.array([numbers[k.convolution] for k in kernels], np.int64)
    out = np.array([k.out_channel for k in kernels], np.int64)
    channel = np.array([k.in_channel for k in kernels], np.int64)
    of = [(c.out_channels, c.in_channels, c.groups) for c in index.convolutions]
    outs, ins, groups = np.array(of, np.int64).T[:, ordinal]
    within = channel - out // (outs // groups) * ins
    outside = np.flatnonzero((out >= outs) | (within < 0) | (within >= ins))
    if len(outside):
        one = kernels[outside[0]]
        raise QueryError(
            f"{name!r} has a kernel from input channel {one.in_channel} to output channel "
            f"{one.out_channel}, and {one.convolution!r} has none such: open it with the atlas "
            "that it was saved from"
        )
    return ordinal, out * ins + within


def _reachable(origin: Origin, index: KernelIndex) -> NDArray[np.int64]:
    """Names of the kernels that can reach the unit, over an index that holds its convolutions."""
    axis = origin.layer.index
    scores = origin.reader.scores(origin.commit, origin.criterion)[0]
    ids = axis.full_ids(origin.unit.rows)[np.flatnonzero(~np.isnan(scores))]
    return moved(ids, axis, index)
