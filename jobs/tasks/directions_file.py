"""Directions from a file, such as the encoder of a sparse autoencoder.

A file's keys are those that autoencoders are published under. What they do not settle (which of two
matrices, which way round, whether a decoder's bias is subtracted first) is asked for, not guessed.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from circuit_atlas.jobs.spec.layers import DirectionsFile
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.documents import parse
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, nearest, one_line

Array = NDArray[np.floating]

MATRICES: Mapping[str, tuple[str, ...]] = {
    "directions": ("bias",),
    "weight": ("bias",),
    "W_enc": ("b_enc",),
    "encoder.weight": ("encoder.bias", "latent_bias"),
    "encoder": ("encoder_bias", "b_enc"),
}
"""Keys of the matrix, each with those of the bias that belongs to it."""
_DECODERS = ("b_dec", "pre_bias", "decoder.bias", "bias")
_NAMES = "names"
# What the arrays of a packed file may take in memory: so much, and so many times the file's size.
_MOST_BYTES, _MOST_FOLD = 256 << 20, 16


def read_directions(spec: DirectionsFile, channels: int) -> Directions:
    """Reads directions over a layer's channels.

    Args:
        spec: the file, and what its keys do not settle.
        channels: of the layer; a matrix of channels x directions is turned by it.

    Raises:
        ModelError: the file cannot be read, or does not hold directions over so many channels.
    """
    path = Path(spec.file)
    arrays, names = _read(path)
    key = _matrix_key(spec, path, arrays)
    matrix = _oriented(key, _real(key, arrays[key], path), channels, path)
    bias = np.zeros(len(matrix), dtype=matrix.dtype)
    bias_key = _bias_key(spec, path, key, arrays)
    if bias_key is not None:
        bias = _vector(bias_key, arrays, len(matrix), "direction", path)
    if spec.subtract not in (None, "none"):
        shift = _vector(str(spec.subtract), arrays, channels, "channel", path)
        bias = bias - matrix @ shift
    elif spec.subtract is None:
        _ask_about_decoder(path, arrays, used={key, bias_key}, channels=channels)
    if spec.names is not None:
        names = _names_in(Path(spec.names))
    named = _checked_names(names, len(matrix), path)
    return Directions(named, matrix, bias, spec.activation)


def _read(path: Path) -> tuple[dict[str, Array], Sequence[str] | None]:
    """The file's arrays by key, and the names in it."""
    if not path.is_file():
        raise ModelError(f"no directions at {str(path)!r}: give the path of a file")
    try:
        if path.suffix in (".npy", ".npz"):
            with path.open("rb") as file:
                _require_room(file, path)
                stored = np.load(file, allow_pickle=False)
                arrays = {"": stored} if isinstance(stored, np.ndarray) else dict(stored)
            names = arrays.pop(_NAMES, None)
            return arrays, None if names is None else [str(name) for name in names]
        # Through torch, as numpy has no bfloat16.
        with safe_open(path, framework="pt") as opened:
            arrays = {key: opened.get_tensor(key).double().numpy() for key in opened.keys()}  # noqa: SIM118
            text = (opened.metadata() or {}).get(_NAMES)
        return arrays, None if text is None else _names_of(text)
    except (
        OSError,
        ValueError,
        EOFError,
        MemoryError,
        RuntimeError,
        BadZipFile,
        SafetensorError,
        zlib.error,
    ) as error:
        raise ModelError(
            f"the directions {str(path)!r} cannot be read: {one_line(error)}; give a "
            ".safetensors, .npy or .npz file"
        ) from error


def _require_room(file: BinaryIO, path: Path) -> None:
    """ValueError where the arrays of an `.npz` file unpack to far more than weights do."""
    if path.suffix != ".npz":
        return
    with ZipFile(file) as parts:
        unpacked = sum(part.file_size for part in parts.infolist())
    file.seek(0)
    most = _MOST_BYTES + _MOST_FOLD * path.stat().st_size
    if unpacked > most:
        raise ValueError(f"its arrays unpack to {unpacked:,} bytes, and {most:,} are allowed")


def _matrix_key(spec: DirectionsFile, path: Path, arrays: Mapping[str, Array]) -> str:
    """The key of the matrix: the one that is named, or the only one that can be it."""
    matrices = [key for key, array in arrays.items() if _squeezed(array).ndim == 2]
    if spec.key is not None:
        if spec.key in matrices:
            return spec.key
        raise ModelError(
            f"{path.name!r} has no matrix {spec.key!r}: {nearest(spec.key, matrices, what='keys')}"
        )
    known = [
        key
        for key in matrices
        if any(key == name or key.endswith(f".{name}") for name in MATRICES)
        and not key.endswith("decoder.weight")
    ]
    candidates = known or matrices
    if len(candidates) == 1:
        return candidates[0]
    found = listed(candidates or list(arrays), most=6)
    raise ModelError(
        f"{path.name!r} holds {'several matrices' if candidates else 'no matrix'} ({found}): "
        'name that of the directions as key = "..."'
    )


def _bias_key(
    spec: DirectionsFile, path: Path, key: str, arrays: Mapping[str, Array]
) -> str | None:
    if spec.bias == "none":
        return None
    if spec.bias is not None:
        if spec.bias not in arrays:
            known = nearest(spec.bias, list(arrays), what="keys")
            raise ModelError(f"{path.name!r} has no bias {spec.bias!r}: {known}")
        return spec.bias
    own = (
        key[: len(key) - len(name)] + bias
        for name, biases in MATRICES.items()
        if key == name or key.endswith(f".{name}")
        for bias in biases
    )
    return next((bias for bias in own if bias in arrays), None)


def _ask_about_decoder(
    path: Path, arrays: Mapping[str, Array], *, used: set[str | None], channels: int
) -> None:
    """Raises ModelError where the file holds what many autoencoders subtract from their input, as
    only whoever trained it knows whether this one does."""
    for key, array in arrays.items():
        name = next((n for n in _DECODERS if key == n or key.endswith(f".{n}")), None)
        if name is not None and key not in used and array.size == channels and array.any():
            raise ModelError(
                f"{path.name!r} holds {key!r}, which some autoencoders subtract from their input: "
                f'say subtract = "{key}" where this one does, or subtract = "none"'
            )


def _oriented(key: str, matrix: Array, channels: int, path: Path) -> Array:
    """The matrix as directions x channels."""
    rows, columns = matrix.shape
    if rows == columns == channels and key.endswith("W_enc"):
        raise ModelError(
            f"{path.name!r}: {key!r} is {rows} x {columns}, and either side may be the "
            "directions; store directions x channels under the key 'directions'"
        )
    if columns == channels:
        return matrix
    if rows == channels:
        return np.ascontiguousarray(matrix.T)
    raise ModelError(
        f"{path.name!r} is a matrix of {rows} x {columns} and the layer has {channels} channels: "
        "give directions x channels, of the layer that they were found in"
    )


def _vector(key: str, arrays: Mapping[str, Array], size: int, per: str, path: Path) -> Array:
    if key not in arrays:
        known = nearest(key, list(arrays), what="keys")
        raise ModelError(f"{path.name!r} has no vector {key!r}: {known}")
    vector = _real(key, arrays[key], path).reshape(-1)
    if len(vector) != size:
        raise ModelError(
            f"{path.name!r}: {key!r} holds {len(vector)} numbers; give {size}, one a {per}"
        )
    return vector


def _real(key: str, array: Array, path: Path) -> Array:
    if array.dtype.kind not in "fiu":
        raise ModelError(f"{path.name!r}: {key or 'it'} holds {array.dtype}, and should be numbers")
    return _squeezed(array).astype(np.float64)


def _squeezed(array: Array) -> Array:
    """Without the last axes of a 1 x 1 convolution's weights."""
    return array.reshape(array.shape[:2]) if array.shape[2:] in ((1,), (1, 1)) else array


def _names_in(path: Path) -> Sequence[str]:
    try:
        return _names_of(path.read_text(encoding="utf-8-sig"))
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(
            f"the names {str(path)!r} cannot be read: {one_line(error)}; give a text file of a "
            "line a direction, or a JSON list"
        ) from error


def _names_of(text: str) -> Sequence[str]:
    """A JSON list, or a line a name."""
    try:
        content = parse(text)
    except ValueError:
        return [line.strip() for line in text.strip().splitlines()]
    return [str(name) for name in content] if isinstance(content, list) else [text]


def _checked_names(names: Sequence[str] | None, count: int, path: Path) -> tuple[str, ...]:
    if names is None:
        return tuple(f"{path.stem}.{n}" for n in range(count))
    if len(names) != count:
        raise ModelError(
            f"{path.name!r} holds {count} directions and there are {len(names)} names: "
            "give one a direction"
        )
    seen: set[str] = set()
    for name in names:
        if not name or name in seen or name.isdecimal():
            fault = "twice" if name in seen else "as a name, which is none or a unit's number"
            raise ModelError(f"directions of {path.name!r}: {name!r} {fault}")
        seen.add(name)
    return tuple(names)
