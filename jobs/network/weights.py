"""Weights: read from a file, checked to fit a network and to be finite, and fingerprinted."""

from __future__ import annotations

import hashlib
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, one_line

_FILES = "give a .safetensors file, or what torch.save(model.state_dict(), path) wrote"
# A zip file, or the pickle of former versions: torch.load stumbles over others in many ways.
_TORCHS = (b"PK", b"\x80")


def load_weights(module: nn.Module, path: Path, *, model: str) -> None:
    """Puts a file's weights into the network; every key must fit.

    Raises ModelError naming the file, and the keys that are missing, unexpected or of another
    shape. `model` is the reference to name in it.
    """
    stored = read_weights(path)
    needed = {key: value for key, value in module.state_dict().items() if _is_tensor(value)}
    missing = sorted(needed.keys() - stored.keys())
    unexpected = sorted(stored.keys() - needed.keys())
    reshaped = [
        f"{key!r} is {list(stored[key].shape)} and should be {list(needed[key].shape)}"
        for key in sorted(needed.keys() & stored.keys())
        if stored[key].shape != needed[key].shape
    ]
    faults = [f"missing {listed(missing, most=3)}"] if missing else []
    if unexpected:
        faults.append(f"not wanted {listed(unexpected, most=3)}")
    if reshaped:
        more = f" and {len(reshaped) - 3} more" if len(reshaped) > 3 else ""
        faults.append(f"other shapes ({', '.join(reshaped[:3])}{more})")
    if faults:
        raise ModelError(
            f"the weights {path.name!r} don't fit {model!r}: {'; '.join(faults)}; "
            "give the state_dict() of that same network"
        )
    module.load_state_dict(dict(stored), strict=False)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from `.safetensors`, or from what `torch.load(weights_only=True)` takes.

    A checkpoint that holds the state dict under `state_dict` is taken as that state dict. Raises
    ModelError, in one line, where the file is missing, broken or holds something else.
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
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        with warnings.catch_warnings():
            # torch warns of pickles by others, which it then either reads or refuses.
            warnings.simplefilter("ignore", category=UserWarning)
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"{what} are not plain tensors, and nothing else is read from a pickle: {_FILES}"
        ) from error
    except Exception as error:  # readers raise whatever they stumble over in a damaged file
        raise ModelError(
            f"{what} are cut or altered, or of another kind of file "
            f"({type(error).__name__}: {one_line(error)}): {_FILES}"
        ) from error
    if isinstance(state, Mapping) and isinstance(state.get("state_dict"), Mapping):
        state = state["state_dict"]
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and _is_tensor(value) for name, value in state.items()
    ):
        raise ModelError(f"{what} are not a state dict (name -> tensor): {_FILES}")
    return dict(state)


def check_finite(module: nn.Module, *, model: str) -> None:
    """Raises ModelError naming the first tensor of the network with a NaN or an infinity in it."""
    for name, tensor in _tensors(module):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            what = "NaN" if bool(torch.isnan(tensor).any()) else "an infinity"
            raise ModelError(
                f"the weights of {model!r} are not finite: {name!r} holds {what} "
                f"({bad} of {tensor.numel()} values); give finite weights"
            )


def fingerprint(module: nn.Module) -> str:
    """Computes the SHA-256, in hexadecimal, over every tensor of the state dict by name: name,
    dtype, shape and the values' bytes."""
    digest = hashlib.sha256()
    for name, tensor in _tensors(module):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name}|{values.dtype}|{list(values.shape)}|".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Computes the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _tensors(module: nn.Module) -> list[tuple[str, Tensor]]:
    # A module may keep extra state there, which is no weight.
    state = module.state_dict()
    return [(name, state[name]) for name in sorted(state) if _is_tensor(state[name])]


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)
