"""Files of weights: those that torch and safetensors write, altered by chance."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save
from torch import nn

from circuit_atlas.jobs.network.weights import load_weights
from tests.fuzz.mutation import altered as altered_bytes
from tests.fuzz.watch import Run


def network() -> nn.Sequential:
    """A network that is quickly loaded."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))


def altered(folder: Path) -> Run:
    """A state dict in one of three formats, some of its bytes altered, for the network it is of."""
    state = network().state_dict()
    files = {
        "w.safetensors": save(state),
        "new.pt": _saved(state, new=True),
        "old.pt": _saved(state, new=False),
    }

    def run(random: Random) -> None:
        name = random.choice(list(files))
        data = files[name]
        if name == "new.pt" and random.random() < 0.7:
            data = random.choice(_INSIDE)(data, random)
        else:
            data = altered_bytes(data, random, tuple(files.values()))
        path = folder / name
        path.write_bytes(data)
        load_weights(network(), path, model="mine:network")

    return run


def _saved(state: object, *, new: bool) -> bytes:
    stream = io.BytesIO()
    torch.save(state, stream, _use_new_zipfile_serialization=new)
    return stream.getvalue()


def _again(
    data: bytes, change: Callable[[str, bytes], bytes], *, packed: int = zipfile.ZIP_STORED
) -> bytes:
    """The zip file with its parts changed, as a zip file again."""
    stream = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(data)) as old,
        zipfile.ZipFile(stream, "w", packed) as new,
    ):
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    return stream.getvalue()


def _part_altered(data: bytes, random: Random) -> bytes:
    """One part altered, and its checksum with it."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        chosen = random.choice([name for name in file.namelist() if name.endswith(".pkl")])
    return _again(data, lambda name, part: altered_bytes(part, random) if name == chosen else part)


def _packed(data: bytes, random: Random) -> bytes:
    """Parts that are packed, some of them with gigabytes of zeros."""
    size = random.choice((0, 10**8))
    return _again(
        data,
        lambda name, part: part + b"\0" * (size if name.endswith("/0") else 0),
        packed=zipfile.ZIP_DEFLATED,
    )


_INSIDE: Sequence[Callable[[bytes, Random], bytes]] = (_part_altered, _part_altered, _packed)
