"""From a model reference to a network with weights, ready to run, and the weights' fingerprint."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

import torch
from torch import nn
from torchvision.models import (
    WeightsEnum,
    get_model,
    get_model_builder,
    get_model_weights,
    list_models,
)
from torchvision.transforms._presets import ImageClassification

from circuit_atlas.jobs import demo
from circuit_atlas.jobs.network.weights import check_finite, file_sha256, fingerprint, load_weights
from circuit_atlas.jobs.spec.sections import ModelSpec, PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import nearest, one_line

_FORMS = "write torchvision:NAME, demo:squeezenet1_1 or package.module:function"
_WHERE = "install it, or set PYTHONPATH to the folder that holds it"


@dataclass(frozen=True)
class LoadedModel:
    """A network as it is explained.

    Attributes:
        reference: as in the spec.
        module: in evaluation mode, float32.
        sha256: fingerprint of all its weights and buffers.
        preprocessing: the one that the weights were published with; None where it is not known.
    """

    reference: str
    module: nn.Module
    sha256: str
    preprocessing: PreprocessingSpec | None


def load_model(spec: ModelSpec) -> LoadedModel:
    """Loads the network that a spec names, with its weights, checked to be finite.

    Where the spec gives no weights, they are drawn with the same seed each time, so that every
    process that loads the model has the same ones. What the user's code prints goes to stderr.
    Raises ModelError, in one line, for a reference that means nothing, code of the user's that
    fails, and weights that don't fit or aren't finite.
    """
    with contextlib.redirect_stdout(sys.stderr):
        module, preprocessing = _find(spec)
        refuse_unfinished(module, spec.reference)
        if spec.weights is not None:
            load_weights(module, Path(spec.weights), model=spec.reference)
        return as_loaded(module.cpu(), reference=spec.reference, preprocessing=preprocessing)


def as_loaded(
    module: nn.Module, *, reference: str, preprocessing: PreprocessingSpec | None = None
) -> LoadedModel:
    """Makes a network ready to run on its device; ModelError where its weights aren't finite.

    Args:
        module: turned to evaluation mode and float32 in place.
        reference: what it is called.
        preprocessing: the one that its weights were published with. Default: not known.
    """
    module = module.float().eval()
    check_finite(module, model=reference)
    return LoadedModel(reference, module, fingerprint(module), preprocessing)


def _find(spec: ModelSpec) -> tuple[nn.Module, PreprocessingSpec | None]:
    """What the reference names, before weights of a file are put in."""
    kind, colon, name = spec.reference.partition(":")
    if not colon:
        raise ModelError(f"model reference {spec.reference!r} has no colon: {_remedy(kind)}")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # torchvision warns about the slow drawing of weights that are replaced or seeded here.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"torchvision\.")
        torch.manual_seed(0)
        if kind == "torchvision":
            return _torchvision(name, spec)
        if kind == "demo":
            return _demo(name), demo.PREPROCESSING
        return _from_function(kind, name), None


def _torchvision(name: str, spec: ModelSpec) -> tuple[nn.Module, PreprocessingSpec | None]:
    if name not in list_models():
        offer = nearest(name, list_models(), what="models")
        raise ModelError(f"torchvision has no model {name!r}: {offer}")
    published = get_model_weights(name)
    if spec.weights is not None:
        known = _published_as(published, Path(spec.weights))
        preprocessing = None if known is None else _published_preprocessing(known.transforms())
        return _empty(name, published=known is not None), preprocessing
    if not spec.pretrained:
        return _empty(name, published=False), None
    if not list(published):
        raise ModelError(
            f"torchvision has no weights for {name!r}: set model.weights to a file, "
            "or model.pretrained = false"
        )
    default = published["DEFAULT"]
    try:
        module: nn.Module = get_model(name, weights=default, progress=False)
    except (OSError, RuntimeError, HTTPException, UnpicklingError) as error:
        raise ModelError(
            f"the weights of {spec.reference!r} could not be fetched from {default.url} "
            f"({one_line(error)}): set model.weights to a file, or model.pretrained = false"
        ) from error
    return module, _published_preprocessing(default.transforms())


def _empty(name: str, *, published: bool) -> nn.Module:
    """torchvision's network without weights; `published` where its own are to be put in."""
    options: dict[str, object] = {}
    parameters = inspect.signature(get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # else a backbone's weights are fetched unasked
    if published and name in ("googlenet", "inception_v3"):
        options["transform_input"] = True  # as torchvision does with its own weights of these two
    module: nn.Module = get_model(name, weights=None, **options)
    return module


def _published_as(published: Iterable[WeightsEnum], path: Path) -> WeightsEnum | None:
    """Which of torchvision's own weights a file is, by the hash in the published name."""
    if not path.is_file():
        return None  # `load_weights` refuses it
    digest = file_sha256(path)
    for weights in published:
        beginning = weights.url.rsplit("-", 1)[-1].split(".")[0]
        if len(beginning) >= 8 and digest.startswith(beginning):
            return weights
    return None


def _published_preprocessing(transforms: object) -> PreprocessingSpec | None:
    """torchvision's transforms for classification as ours; None for those of another task."""
    if not isinstance(transforms, ImageClassification):
        return None
    resize, crop = (
        tuple(extent) if len(extent) == 2 else extent[0]
        for extent in (transforms.resize_size, transforms.crop_size)
    )
    return PreprocessingSpec(
        resize=resize,
        crop=crop,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
        interpolation=transforms.interpolation.value,
    )


def _demo(name: str) -> nn.Module:
    if name not in demo.MODELS:
        known = nearest(name, demo.MODELS, what="demo models")
        raise ModelError(f"the demo has no model {name!r}: {known}")
    return demo.squeezenet1_1()


def _from_function(package: str, name: str) -> nn.Module:
    reference = f"{package}:{name}"
    function = _import(package, name)
    try:
        module = function()
    except (Exception, SystemExit) as error:  # the user's code: anything may come out of it
        raise ModelError(
            f"{reference!r} failed with {type(error).__name__}: {one_line(error)}; "
            "it is called without arguments and must return a torch.nn.Module"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(
            f"{reference!r} returned {type(module).__name__!r}: it must return a torch.nn.Module"
        )
    return module


def _import(package: str, name: str) -> Callable[[], object]:
    reference = f"{package}:{name}"
    for what, absent in (("module", package.split(".")[0] == ""), ("function", not name)):
        if absent:
            raise ModelError(f"model reference {reference!r} names no {what}: {_FORMS}")
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError as error:
        if f"{package}.".startswith(f"{error.name}."):
            raise ModelError(f"model reference {reference!r}: {_remedy(package)}") from error
        raise ModelError(f"importing {package!r} failed: {one_line(error)}; {_WHERE}") from error
    except (Exception, SystemExit) as error:  # importing runs the user's code
        raise ModelError(
            f"importing {package!r} failed with {type(error).__name__}: {one_line(error)}"
        ) from error
    function = getattr(module, name, None)
    if function is None:
        offered = [other for other, value in vars(module).items() if callable(value)]
        known = nearest(name, offered, what=f"functions of {package}")
        raise ModelError(f"module {package!r} has no {name!r}: {known}")
    if not callable(function):
        raise ModelError(
            f"{reference!r} is of type {type(function).__name__!r}: "
            "name a function that returns the model"
        )
    checked: Callable[[], object] = function
    return checked


def _remedy(kind: str) -> str:
    """What a reference may look like, guessed from the part before its colon, or the whole."""
    if kind in list_models():
        return f'write "torchvision:{kind}"'
    if close := difflib.get_close_matches(kind, ("torchvision", "demo")):
        return f"did you mean {close[0]}:NAME?"
    if _importable(kind):
        return f"name a function of it: '{kind}:FUNCTION'"
    return f"no module {kind!r} can be imported: {_WHERE}; or {_FORMS}"


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (Exception, SystemExit):  # looking into a package runs it
        return False


def refuse_unfinished(module: nn.Module, reference: str) -> None:
    """Raises ModelError where a tensor of the network is lazy or on the meta device."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ModelError(
                f"{name!r} of {reference!r} has no values yet: return a network that has run once"
            )
