"""`torchvision:NAME` -> torchvision's network, with its weights or without."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable
from functools import partial
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError

from torch import nn
from torchvision.models import (
    WeightsEnum,
    get_model,
    get_model_builder,
    get_model_weights,
    list_models,
)
from torchvision.transforms._presets import ImageClassification

from circuit_atlas.jobs.network.model_function import call
from circuit_atlas.jobs.network.weights import file_sha256
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import nearest, one_line

_WITHOUT_EPS = frozenset(
    f"{kind}_resnet50_fpn" for kind in ("fasterrcnn", "keypointrcnn", "maskrcnn", "retinanet")
)


def torchvision_model(name: str, spec: ModelSpec) -> tuple[nn.Module, PreprocessingSpec | None]:
    """Builds a model of torchvision, with the preprocessing of its weights where they are its own.

    Weights of a file are for the caller to put in. Raises ModelError for a name or arguments that
    torchvision does not know, and for weights that cannot be fetched.
    """
    if name not in list_models():
        offer = nearest(name, list_models(), what="models")
        raise ModelError(f"torchvision has no model {name!r}: {offer}")
    for own in ("weights", "progress"):
        if own in spec.arguments:
            raise ModelError(
                f"model.arguments has {own!r}: weights are named by model.weights and "
                "model.pretrained"
            )
    published = get_model_weights(name)
    if spec.weights is not None:
        known = _published_as(published, Path(spec.weights))
        preprocessing = None if known is None else _published_preprocessing(known.transforms())
        return _empty(name, spec, published=known is not None), preprocessing
    if not spec.pretrained:
        return _empty(name, spec, published=False), None
    if not list(published):
        raise ModelError(
            f"torchvision has no weights for {name!r}: set model.weights to a file, "
            "or model.pretrained = false"
        )
    default = published["DEFAULT"]
    try:
        module: nn.Module = get_model(
            name, weights=default, progress=False, **copy.deepcopy(spec.arguments)
        )
    except (OSError, RuntimeError, HTTPException, UnpicklingError) as error:
        raise ModelError(
            f"the weights of {spec.reference!r} could not be fetched from {default.url} "
            f"({one_line(error)}): set model.weights to a file, or model.pretrained = false"
        ) from error
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"torchvision's weights of {name!r} don't go with [model.arguments]: "
            f"{one_line(error)}; set model.weights to a file, or model.pretrained = false"
        ) from error
    return module, _published_preprocessing(default.transforms())


def _empty(name: str, spec: ModelSpec, *, published: bool) -> nn.Module:
    """torchvision's network without weights; `published` where its own are to be put in."""
    options: dict[str, object] = {}
    parameters = inspect.signature(get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None  # else a backbone's weights are fetched unasked
    # What torchvision does with its own weights alone.
    if published and name in ("googlenet", "inception_v3"):
        options["transform_input"] = True
    options.update(spec.arguments)
    module = call(partial(get_model, name, weights=None), spec.reference, options)
    if published and name in _WITHOUT_EPS:
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eps = 0.0
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
