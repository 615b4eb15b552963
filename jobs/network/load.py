"""From a model reference to a network with weights, ready to run, and the weights' fingerprint."""

from __future__ import annotations

import contextlib
import re
import sys
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.network.model_function import code_of, model_of_function, reference_remedy
from circuit_atlas.jobs.network.timm_model import timm_model
from circuit_atlas.jobs.network.torchvision_model import torchvision_model
from circuit_atlas.jobs.network.weights import (
    FileWeights,
    check_finite,
    fingerprint,
    load_weights,
)
from circuit_atlas.jobs.network.wrappers import unwrapped
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import nearest, one_line

# Eager quantisation, and what fuses a convolution with the ReLU behind it.
_QUANTIZED = re.compile(r"torch\.(ao\.)?nn\.(intrinsic\.)?quantized(\.dynamic)?(\.|$)")


@dataclass(frozen=True)
class LoadedModel:
    """A network as it is explained.

    Attributes:
        reference: as in the spec.
        module: in evaluation mode, float32.
        sha256: fingerprint of all its weights and buffers.
        preprocessing: the one that the weights were published with; None where it is not known.
        weights: what a file gave of its weights; None where they are of no file.
        code: the file with the function that made it; None where no function of the user's did.
    """

    reference: str
    module: nn.Module
    sha256: str
    preprocessing: PreprocessingSpec | None
    weights: FileWeights | None = None
    code: str | None = None


def load_model(spec: ModelSpec) -> LoadedModel:
    """Loads the network that a spec names, with its weights, checked to be finite.

    Where the spec gives no weights, they are drawn with the same seed each time, so that every
    process that loads the model has the same ones. What the user's code prints goes to stderr.
    Raises ModelError, in one line, for a reference that means nothing, code of the user's that
    fails, and weights that don't fit or aren't finite.
    """
    with contextlib.redirect_stdout(sys.stderr):
        module, preprocessing = _find(spec)
        refuse_unusable(module, spec.reference)
        module, weights = unwrapped(module), None
        if spec.weights is not None:
            weights = load_weights(module, Path(spec.weights), model=spec.reference)
        loaded = as_loaded(module.cpu(), reference=spec.reference, preprocessing=preprocessing)
        return replace(loaded, weights=weights, code=code_of(spec.reference))


def as_loaded(
    module: nn.Module, *, reference: str, preprocessing: PreprocessingSpec | None = None
) -> LoadedModel:
    """Makes a network ready to run on its device; ModelError where its weights aren't finite, or
    are of a kind that float32 is not made of.

    Args:
        module: turned to evaluation mode and float32 in place.
        reference: what it is called.
        preprocessing: the one that its weights were published with. Default: not known.
    """
    try:
        module = module.float().eval()
        check_finite(module, model=reference)
        return LoadedModel(reference, module, fingerprint(module), preprocessing)
    except ModelError:
        raise
    except Exception as error:  # modules and tensors may be of any subclass
        raise ModelError(
            f"the weights of {reference!r} cannot be read as float32 "
            f"({type(error).__name__}: {one_line(error)}): return a network of plain tensors"
        ) from error


def _find(spec: ModelSpec) -> tuple[nn.Module, PreprocessingSpec | None]:
    """What the reference names, before weights of a file are put in."""
    kind, colon, name = spec.reference.partition(":")
    if not colon:
        raise ModelError(
            f"model reference {spec.reference!r} has no colon: {reference_remedy(kind)}"
        )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torchvision warns about the slow drawing of weights that are replaced or seeded here.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torchvision\.")
        torch.manual_seed(0)
        if kind == "torchvision":
            return torchvision_model(name, spec)
        if kind == "timm":
            return timm_model(name, spec)
        if kind == "demo":
            return _demo(name, spec), demo.PREPROCESSING
        return model_of_function(kind, name, spec.arguments, code=spec.code), None


def _demo(name: str, spec: ModelSpec) -> nn.Module:
    if name not in demo.MODELS:
        known = nearest(name, demo.MODELS, what="demo models")
        raise ModelError(f"the demo has no model {name!r}: {known}")
    if spec.arguments:
        raise ModelError(f"demo:{name} takes no [model.arguments]: leave them out")
    return demo.squeezenet1_1()


def refuse_unusable(module: nn.Module, reference: str) -> None:
    """Raises ModelError where a module of the network is scripted or quantised, or a tensor of it
    is lazy or on the meta device."""
    for path, part in module.named_modules():
        what = repr(path) if path else "the network"
        if isinstance(part, torch.jit.ScriptModule):
            raise ModelError(
                f"{what} of {reference!r} is scripted (torch.jit), and no longer says what it "
                "computes: return the module that it was made from"
            )
        # FloatFunctional stands in networks that may be quantised later, and computes in float32.
        quantised = _QUANTIZED.match(type(part).__module__)
        if quantised and type(part).__name__ != "FloatFunctional":
            raise ModelError(
                f"{what} of {reference!r} is quantised ({type(part).__name__}), and circuits are "
                "computed in float32: return the network that it was made from"
            )
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ModelError(
                f"{name!r} of {reference!r} has no values yet: return a network that has run once"
            )
