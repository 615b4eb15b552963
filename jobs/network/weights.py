"""Weights: put into a network as far as they fit, checked to be finite, and fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.weights_file import read_weights
from circuit_atlas.jobs.network.weights_fit import best_naming
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import listed, one_line

# Batch norm counts the batches that it was trained with; no output depends on it.
_COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class FileWeights:
    """What a file gave a network, and what it left as it was.

    Attributes:
        file: the file's name.
        model: the reference, for messages.
        remarks: how the file is unlike the network's state dict, a line each; empty for that alone.
        missing: the network's tensors that the file has not.
        reshaped: those that it has in another shape, with both shapes in words.
        unwanted: the file's tensors that the network has not.
    """

    file: str
    model: str
    remarks: tuple[str, ...]
    missing: frozenset[str]
    reshaped: Mapping[str, str]
    unwanted: tuple[str, ...]

    def require(self, layer: str, tensors: Collection[str], modules: Collection[str]) -> None:
        """Checks that the file gave all that a layer is computed from.

        Args:
            layer: the layer, for messages.
            tensors: names of the parameters and buffers that it is computed from.
            modules: paths of the modules that it is computed in.

        Raises:
            ModelError: one of these tensors is not of the file, or the file has a tensor in one of
                these modules, such as a bias, that the network has not.
        """
        missing = sorted(self.missing.intersection(tensors))
        reshaped = [self.reshaped[name] for name in sorted(self.reshaped) if name in tensors]
        unwanted = [name for name in self.unwanted if _belongs(name, layer, modules)]
        if faults := _faults(missing, unwanted, reshaped):
            raise ModelError(
                f"the weights {self.file!r} don't fit {self.model!r}, in what layer {layer!r} is "
                f"computed from: {faults}; give the state_dict() of that same network"
            )


def load_weights(module: nn.Module, path: Path, *, model: str) -> FileWeights:
    """Puts a file's weights into the network, under whatever names the file has them.

    Tensors that don't fit stay as they were: `FileWeights.require` refuses a layer that needs one.
    Raises ModelError, in one line, where the file cannot be read or nothing in it fits. `model` is
    the reference to name in it.
    """
    stored = read_weights(path)
    needed = {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if _is_tensor(value)
    }
    naming = best_naming(stored, needed)
    for name, source in naming.sources.items():
        if kind := _odd(stored.tensors[source], needed[name]):
            raise ModelError(
                f"the weights {path.name!r} cannot be used: {source!r} is {kind}; give plain "
                "tensors of floating numbers"
            )
    matched = {source: name for name, source in naming.sources.items()}
    known = {*naming.reshaped.values(), *matched}
    state = {
        matched.get(source, naming.added + source.removeprefix(naming.dropped)): value
        for source, value in stored.tensors.items()
        if source in matched or (source not in known and source.startswith(naming.dropped))
    }
    try:
        result = module.load_state_dict(state, strict=False)
    except Exception as error:  # modules load themselves as they like
        raise ModelError(
            f"the weights {path.name!r} don't fit {model!r}: {one_line(error)}"
        ) from error
    # A tensor may have several names, and the file one of them.
    given = {id(needed[n]) for n in needed.keys() - {*result.missing_keys, *naming.reshaped}}
    absent = {
        name
        for name, value in needed.items()
        if id(value) not in given and not name.endswith(_COUNTER)
    }
    reshaped = {
        name: f"{name!r} is {list(stored.tensors[source].shape)} and should be "
        f"{list(needed[name].shape)}"
        for name, source in naming.reshaped.items()
        if name in absent
    }
    missing = frozenset(absent - reshaped.keys())
    unwanted = tuple(sorted(result.unexpected_keys))
    faults = _faults(sorted(missing), unwanted, list(reshaped.values()))
    if all(name in absent or name.endswith(_COUNTER) for name in needed):
        raise ModelError(
            f"the weights {path.name!r} don't fit {model!r}: {faults}; "
            "give the state_dict() of that same network"
        )
    remarks = []
    if clauses := naming.words(stored):
        remarks.append(f"of the weights {path.name!r} are taken {', '.join(clauses)}")
    if faults:
        remarks.append(
            f"the weights {path.name!r} don't fit in all: {faults}; no layer here is computed from "
            "these"
        )
    return FileWeights(path.name, model, tuple(remarks), missing, reshaped, unwanted)


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


def _odd(stored: Tensor, needed: Tensor) -> str | None:
    """What is odd about a stored tensor, in words: it would be copied, and be something else."""
    if stored.layout != torch.strided:
        return f"sparse ({str(stored.layout).removeprefix('torch.')})"
    if stored.is_quantized or stored.is_meta:
        return "quantised" if stored.is_quantized else "without values"
    if needed.is_floating_point() and not stored.is_floating_point():
        return f"of {str(stored.dtype).removeprefix('torch.')}"
    return None


def _faults(missing: Sequence[str], unwanted: Sequence[str], reshaped: Sequence[str]) -> str:
    faults = [f"missing {listed(missing, most=3)}"] if missing else []
    if unwanted:
        faults.append(f"not wanted {listed(unwanted, most=3)}")
    if reshaped:
        more = f" and {len(reshaped) - 3} more" if len(reshaped) > 3 else ""
        faults.append(f"other shapes ({', '.join(reshaped[:3])}{more})")
    return "; ".join(faults)


def _belongs(name: str, layer: str, modules: Collection[str]) -> bool:
    """Whether a tensor would be of a module that the layer is computed in wholly: not one that the
    layer lies in, whose other parts may come later."""
    parts = name.split(".")
    paths = [".".join(parts[:end]) for end in range(1, len(parts))]
    nearest = next((path for path in reversed(paths) if path in modules), None)
    return nearest is not None and not layer.startswith(f"{nearest}.")
