"""What `export` writes: tables, arrays and figures of a layer or a unit, by the file's ending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.storage_schema.errors import QueryError

_OF_LAYER: Mapping[str, Callable[[Layer], AtlasTable]] = {
    "units": Layer.units,
    "summary": Layer.summary,
    "faithfulness": Layer.faithfulness,
    "responses": Layer.responses,
    "subfeatures": Layer.subfeatures,
}
_OF_UNIT: Mapping[str, Callable[[Unit], AtlasTable]] = {
    "faithfulness": Unit.faithfulness,
    "responses": Unit.responses,
    "subfeatures": Unit.subfeatures,
    "top-images": Unit.top_images,
}
KINDS = (*_OF_LAYER, "kernels", "top-images", "masks", "scores", "figure")
"""What can be exported."""

_ARRAYS = ("masks", "scores")


def export(
    layer: Layer,
    what: str,
    *,
    unit: str | None,
    keep: float,
    criterion: str | None,
    target: Path,
) -> Path:
    """Write a file, whole or not at all, and return its path.

    Args:
        layer: of the atlas.
        what: one of `KINDS`.
        unit: its number or name, where one unit alone is meant.
        keep: the kept fraction of its circuit, or of all units' circuits.
        criterion: the score that chose it. Default: the atlas' first.
        target: the file.

    Raises:
        QueryError: that is of a unit and none is given, or of a layer alone; the file's ending
            does not fit; or as of the calls that it is had by.
        WriteError: it cannot be written.
    """
    one = None if unit is None else layer.unit(unit)
    if what in _ARRAYS:
        return _arrays(layer, one, what, keep=keep, criterion=criterion, target=target)
    if one is None:
        if what not in _OF_LAYER:
            raise QueryError(f"{what!r} is of one unit: give its number after {what!r}")
        return _OF_LAYER[what](layer).save(target)
    if what == "figure":
        return one.circuit(keep, criterion=criterion).diagram().save(target)
    if what == "kernels":
        return one.circuit(keep, criterion=criterion).kernels().save(target)
    if what not in _OF_UNIT:
        raise QueryError(f"{what!r} is of a whole layer: leave the unit out")
    return _OF_UNIT[what](one).save(target)


def _arrays(
    layer: Layer,
    unit: Unit | None,
    what: str,
    *,
    keep: float,
    criterion: str | None,
    target: Path,
) -> Path:
    file = path_of(target)
    if file.suffix.lower() != ".npz":
        raise QueryError(f"{what} are arrays, for numpy.load: end {file.name!r} with .npz")
    stream = BytesIO()
    np.savez_compressed(stream, **_named(layer, unit, what, keep=keep, criterion=criterion))
    write_whole(file, stream.getvalue())
    return file


def _named(
    layer: Layer, unit: Unit | None, what: str, *, keep: float, criterion: str | None
) -> dict[str, Any]:
    """The arrays of the file, by name."""
    if unit is not None and what == "masks":
        return dict(unit.circuit(keep, criterion=criterion).masks())
    if unit is not None:
        raise QueryError("'scores' is of a whole layer: leave the unit out")
    found = (
        layer.masks(keep=keep, criterion=criterion)
        if what == "masks"
        else layer.scores(criterion=criterion)
    )
    axis = layer.kernels().to_arrow()
    names = axis["convolution"].combine_chunks()
    channels = {name: axis[name].fill_null(-1).to_numpy() for name in ("out_channel", "in_channel")}
    return {
        what: np.asarray(found),
        "units": found.units,
        "convolutions": np.asarray(names.dictionary.to_pylist()),
        "convolution": names.indices.to_numpy(),
        **channels,
    }
