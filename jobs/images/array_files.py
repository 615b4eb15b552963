"""Arrays in `.npy` files and Zarr folders, on the local disk or in an object store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.storage import ObjectStore

from circuit_atlas.jobs.images.named_files import file_at
from circuit_atlas.jobs.images.npy_object import NpyObject
from circuit_atlas.jobs.images.object_files import ObjectFile, asked, is_url, open_bucket
from circuit_atlas.storage_schema.client import obstores
from circuit_atlas.storage_schema.http_address import shown
from circuit_atlas.storage_schema.patience import Patience

_T = TypeVar("_T")


def open_npy(source: str, *, patience_s: float) -> Any:
    """Opens an array of which single rows are read, with a shape and a dtype.

    Raises FileNotFoundError where there is none, and what numpy or a store stumbles over.
    """
    file = file_at(source, patience_s=patience_s)
    if file is None:
        raise FileNotFoundError(f"{shown(source)} is missing")
    return NpyObject(file) if isinstance(file, ObjectFile) else np.load(source, mmap_mode="r")


def open_zarr(source: str, member: str | None = None, *, patience_s: float) -> Any:
    """Opens a Zarr array or group, or the array at a path in it, as Zarr gives it.

    Raises FileNotFoundError where there is none, and what Zarr or a store stumbles over.
    """
    if not is_url(source):
        return zarr.open(source, path=member, mode="r")
    bucket, key = open_bucket(source, patience_s=patience_s)
    store = ObjectStore(obstores(bucket.store), read_only=True)
    return bucket.asked(key, lambda: zarr.open(store, path=member or key, mode="r"))


def read_rows(array: Any, source: str, rows: slice, *, patience_s: float) -> NDArray[Any]:
    """Reads some rows of an array that was opened; InfrastructureError where its store gives no
    answer, and what numpy or Zarr stumbles over."""
    if isinstance(array, zarr.Array):
        return from_zarr(source, lambda: np.asarray(array[rows]), patience_s=patience_s)
    return np.asarray(array[rows])


def from_zarr(source: str, read: Callable[[], _T], *, patience_s: float) -> _T:
    """Gives what is read of a Zarr array or group; errors as of `asked`, where it lies in an object
    store."""
    return asked(shown(source), read, patience=Patience(patience_s)) if is_url(source) else read()
