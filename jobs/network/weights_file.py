"""A file of weights -> its tensors by name, whatever lies around them, and no code of it run."""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import one_line

_FILES = "give a .safetensors file, or what torch.save(model.state_dict(), path) wrote"
# A zip file, or the pickle of former versions: torch.load stumbles over others in many ways.
_TORCHS = (b"PK", b"\x80")
_UNKNOWN = re.compile(r"GLOBAL (\S+) was not an allowed global")
# More than any file of weights has: classes that torch doesn't know, entries of all its tables, and
# tables, or parts of a name, within one another.
_MOST_FOREIGN, _MOST_ENTRIES, _DEEPEST = 100, 50_000, 64


@dataclass(frozen=True)
class StoredTensors:
    """The tensors of a file.

    Attributes:
        file: the file's name, for messages.
        tensors: by name; that of a tensor in a table of the file begins with the table's, as in
            `state_dict.conv1.weight`.
        tables: names of the tables that hold tensors, "" for the file itself.
    """

    file: str
    tensors: Mapping[str, Tensor]
    tables: tuple[str, ...]

    def table(self, name: str) -> str:
        """Gives the innermost table that a tensor's name, or the beginning of one, lies in."""
        inside = [table for table in self.tables if not table or f"{name}.".startswith(f"{table}.")]
        return max(inside, key=len, default="")


def read_weights(path: Path) -> StoredTensors:
    """Reads `.safetensors`, or what `torch.save` wrote: a state dict, a module, or tables that hold
    one somewhere.

    Whatever else a checkpoint holds, such as a date or a configuration, is passed over: a class
    that torch does not know is read as an empty object, and no code of it runs. NumPy's arrays
    count as tensors. Nothing takes more memory than the file is large, whatever the file claims.
    Raises ModelError, in one line, where the file is missing, broken or holds no tensor with a
    name.
    """
    if not path.is_file():
        raise ModelError(f"no weights at {str(path)!r}: give the path of a file")
    what = f"the weights {str(path)!r}"
    try:
        with path.open("rb") as file:
            begin = file.read(2)
    except OSError as error:
        raise ModelError(f"{what} cannot be read: {one_line(error)}") from error
    if not begin:
        raise ModelError(f"{what} are an empty file: {_FILES}")
    if path.suffix != ".safetensors" and not begin.startswith(_TORCHS):
        raise ModelError(f"{what} are no file that torch.save wrote: {_FILES}")
    try:
        stored = load_file(path) if path.suffix == ".safetensors" else _unpickled(path, begin)
        found = list(_Search(path.stat().st_size).tensors(stored))
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{what} are not plain tensors, and nothing else is read from a pickle: {_FILES}"
        ) from error
    except Exception as error:  # readers raise whatever they stumble over in a damaged file
        raise ModelError(
            f"{what} are cut or altered, or of another kind of file "
            f"({type(error).__name__}: {one_line(error)}): {_FILES}"
        ) from error
    if not found:
        raise ModelError(f"{what} are not a state dict (name -> tensor): {_FILES}")
    tables = tuple(dict.fromkeys(".".join(table) for table, _, _ in found))
    return StoredTensors(
        path.name, {".".join((*table, key)): value for table, key, value in found}, tables
    )


class _Unread:
    """Stands for an object of a class that torch doesn't know; of a module, its tensors are kept.

    Attributes:
        parts: parameters, buffers and modules by name, as nn.Module pickles them.
    """

    parts: Mapping[str, object] = MappingProxyType({})

    def __new__(cls, *_: object, **__: object) -> _Unread:
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        if isinstance(state, Mapping):
            kept = ("_parameters", "_buffers", "_modules")
            parts = [state[name] for name in kept if isinstance(state.get(name), Mapping)]
            self.parts = {name: value for part in parts for name, value in part.items()}


def _unpickled(path: Path, begin: bytes) -> object:
    foreign: list[str] = []
    if begin == b"PK":
        _require_unpacked(path)
        foreign += torch.serialization.get_unsafe_globals_in_checkpoint(path)
    while True:
        try:
            return _loaded(path, foreign)
        except pickle.UnpicklingError as error:
            # In files of former versions, the classes turn up one by one.
            unknown = _UNKNOWN.search(str(error))
            if unknown is None or unknown[1] in foreign or len(foreign) > _MOST_FOREIGN:
                raise
            foreign.append(unknown[1])


def _require_unpacked(path: Path) -> None:
    """ValueError where the parts of a zip file are packed, or lie over one another: torch writes
    them as they are, one behind the other, and others may unpack to anything."""
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are packed, which torch.save does not do")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts say that they are larger than the file")


def _loaded(path: Path, foreign: Sequence[str]) -> object:
    safe = _numpy_globals()
    known = {name for _, name in safe}
    # One class a name: torch looks classes up by object.
    safe += [(type("_Unread", (_Unread,), {}), name) for name in foreign if name not in known]
    with warnings.catch_warnings(), torch.serialization.safe_globals([*safe]):
        # torch warns of pickles by others, which it then either reads or refuses.
        warnings.simplefilter("ignore", category=UserWarning)
        state: object = torch.load(path, map_location="cpu", weights_only=True)
    return state


def _numpy_globals() -> list[tuple[Callable[..., Any], str]]:
    """What NumPy's arrays and numbers are pickled by, under the names of its versions 1 and 2."""
    functions: dict[str, Callable[..., Any]] = {
        "_reconstruct": np.zeros(1).__reduce__()[0],  # type: ignore[dict-item]
        "scalar": np.float64(0).__reduce__()[0],  # type: ignore[dict-item]
    }
    dtypes = {type(np.dtype(code)) for code in np.typecodes["All"]}
    return [
        (np.ndarray, "numpy.ndarray"),
        (np.dtype, "numpy.dtype"),
        *((dtype, f"numpy.dtypes.{dtype.__name__}") for dtype in dtypes),
        *(
            (function, f"numpy.{core}.multiarray.{name}")
            for name, function in functions.items()
            for core in ("core", "_core")
        ),
    ]


class _Search:
    """Finds the tensors in tables within tables, without more work or memory than the file is
    large: tables may share a table or an array, and a few of them then stand for millions."""

    def __init__(self, size_bytes: int) -> None:
        """`size_bytes` of the file: no array of it is larger."""
        self._size_bytes = size_bytes
        self._entries = 0
        self._arrays: dict[int, Tensor] = {}

    def tensors(
        self, value: object, table: tuple[str, ...] = (), around: tuple[int, ...] = ()
    ) -> Iterator[tuple[tuple[str, ...], str, Tensor]]:
        """Give every tensor with a name: its table, its key there, and itself.

        Args:
            value: what may be a table.
            table: the names that lead to it.
            around: the tables around this one, which it may hold again.

        Raises:
            ValueError: an array, or the number of entries, is larger than it can be.
        """
        items = value.parts if isinstance(value, _Unread) else value
        if not isinstance(items, Mapping) or id(value) in around or len(table) > _DEEPEST:
            return
        for key, item in items.items():
            self._entries += 1
            if self._entries > _MOST_ENTRIES:
                raise ValueError(f"its tables have more than {_MOST_ENTRIES:,} entries")
            if not isinstance(key, str) or key.count(".") > _DEEPEST:
                continue
            if isinstance(item, Tensor):
                yield table, key, item
            elif isinstance(item, np.ndarray) and item.dtype.kind in "biuf":
                yield table, key, self._of_array(key, item)
            else:
                yield from self.tensors(item, (*table, key), (*around, id(value)))

    def _of_array(self, key: str, array: NDArray[Any]) -> Tensor:
        if array.nbytes > self._size_bytes:
            raise ValueError(f"{key[:80]!r} says that it has {array.nbytes:,} bytes")
        if id(array) not in self._arrays:
            self._arrays[id(array)] = torch.from_numpy(np.array(array))
        return self._arrays[id(array)]
