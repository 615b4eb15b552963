"""A file of weights from a stranger runs nothing, and takes no more memory than it is large."""

from __future__ import annotations

import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuit_atlas.jobs.network.weights import load_weights
from circuit_atlas.storage_schema.errors import ModelError
from tests.fuzz.watch import resident_bytes
from tests.fuzz.weights import network

State = dict[str, Any]


class Calling:
    """Pickled as a call of some function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def shared(state: State) -> State:
    """Forty tables within one another, each of which has the next twice."""
    for _ in range(40):
        state = {"a": state, "b": state}
    return state


def deep(state: State) -> State:
    for _ in range(300):
        state = {"a": state}
    return state


def many(state: State) -> State:
    array = np.zeros(10**5)
    return {"a": {str(n): array for n in range(40_000)}, "b": state}


CONTENT: dict[str, tuple[Callable[[State], object], str]] = {
    "tables that share tables": (shared, "its tables have more than 50,000 entries"),
    "tables far within one another": (deep, "are not a state dict"),
    "an array that claims to be large": (
        lambda _: {"0.weight": Calling(np.ndarray, (10**9,), "f8")},
        "'0.weight' says that it has 8,000,000,000 bytes",
    ),
    "a name of many parts": (
        lambda s: {"a." * 100_000 + "weight": s["0.weight"]},
        "are not a state dict",
    ),
    "a sparse tensor": (
        lambda s: {**s, "0.weight": s["0.weight"].to_sparse()},
        "'0.weight' is sparse (sparse_coo); give plain tensors of floating numbers",
    ),
    "whole numbers": (lambda s: {**s, "0.weight": s["0.weight"].long()}, "'0.weight' is of int64"),
    "complex numbers": (
        lambda s: {**s, "0.weight": s["0.weight"].to(torch.complex64)},
        "'0.weight' is of complex64",
    ),
}


@contextmanager
def little_is_taken(megabytes: int) -> Iterator[None]:
    """Less than five seconds, and not much memory."""
    started_s, before = time.process_time(), resident_bytes(reset=True)
    yield
    assert time.process_time() - started_s < 5
    assert resident_bytes() - before < megabytes << 20


def refused(path: Path) -> str:
    """Why a file is refused."""
    with little_is_taken(100), pytest.raises(ModelError) as told:
        load_weights(network(), path, model="mine:network")
    assert "\n" not in str(told.value)
    return str(told.value)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
@pytest.mark.parametrize("kind", CONTENT)
def test_content_is_refused(kind, new, tmp_path):
    make, said = CONTENT[kind]
    path = tmp_path / "w.pt"
    torch.save(make(network().state_dict()), path, _use_new_zipfile_serialization=new)
    assert said in refused(path)


@pytest.mark.parametrize("new", [True, False], ids=["zip", "pickle"])
def test_no_function_is_called(new, tmp_path):
    path, ran = tmp_path / "w.pt", tmp_path / "ran"
    state = {**network().state_dict(), "more": Calling(shutil.copyfile, __file__, str(ran))}
    torch.save(state, path, _use_new_zipfile_serialization=new)
    load_weights(network(), path, model="mine:network")
    state["more"] = Calling(os.mkdir, str(ran))
    torch.save(state, path, _use_new_zipfile_serialization=new)
    assert "are not plain tensors, and nothing else is read from a pickle" in refused(path)
    assert not ran.exists()


def test_an_array_that_is_named_often_is_held_once(tmp_path):
    torch.save(many(network().state_dict()), tmp_path / "w.pt")
    with little_is_taken(300):
        load_weights(network(), tmp_path / "w.pt", model="mine:network")


def test_a_tensor_that_stands_for_a_larger_one_takes_nothing(tmp_path):
    state = {**network().state_dict(), "more": torch.zeros(1).expand(10**6, 10**6)}
    torch.save(state, tmp_path / "w.pt")
    load_weights(network(), tmp_path / "w.pt", model="mine:network")


def test_packed_parts_are_not_unpacked(tmp_path):
    stream = io.BytesIO()
    torch.save(network().state_dict(), stream)
    path = tmp_path / "w.pt"
    with (
        zipfile.ZipFile(stream) as old,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name) + bytes(10**8 * name.endswith("data/0")))
    assert path.stat().st_size < 10**6
    assert "its parts are packed, which torch.save does not do" in refused(path)


@pytest.mark.parametrize(
    "header",
    [
        b"\xff" * 8,
        (2**40).to_bytes(8, "little"),
        (10**7).to_bytes(8, "little") + b"[" * 10**7,
        *(
            len(text).to_bytes(8, "little") + text
            for text in (
                json.dumps(
                    {"0.weight": {"dtype": "F32", "shape": shape, "data_offsets": at}}
                ).encode()
                for shape, at in (
                    ([2**40], [0, 2**42]),
                    ([2**62, 2**62], [0, 4]),
                    ([4], [0, 4]),
                    ([1], [-4, 0]),
                )
            )
        ),
    ],
)
def test_a_header_of_safetensors_that_lies_is_refused(header, tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(header + b"\0" * 4)
    assert "are cut or altered" in refused(path)
