"""`timm:NAME` -> a network of PyTorch Image Models, with the preprocessing that timm gives it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any, get_args

from torch import nn

from circuit_atlas.jobs.network.model_function import call
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import Interpolation, PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.wording import nearest, one_line

_OURS = ("model_name", "pretrained", "checkpoint_path")


def timm_model(name: str, spec: ModelSpec) -> tuple[nn.Module, PreprocessingSpec | None]:
    """Builds a model of timm, and its preprocessing where the spec can say that.

    Weights of a file are for the caller to put in. Raises ModelError where timm is not installed,
    for a name or arguments that it does not know, and for weights that cannot be fetched.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        if error.name != "timm":
            raise
        raise ModelError(
            f"model reference {spec.reference!r} needs the package timm: "
            "python -m pip install 'circuit-atlas[timm]'"
        ) from error
    if not timm.is_model(name):
        offer = nearest(name, timm.list_models(), what="models")
        raise ModelError(f"timm has no model {name!r}: {offer}")
    for own in _OURS:
        if own in spec.arguments:
            raise ModelError(
                f"model.arguments has {own!r}: the model and its weights are named by "
                "model.reference, model.weights and model.pretrained"
            )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"timm\.")
        create = partial(timm.create_model, name)
        if spec.weights is not None or not spec.pretrained:
            module = call(create, spec.reference, spec.arguments)
        else:
            module = _pretrained(create, spec)
        config = timm.data.resolve_model_data_config(module)
    return module, preprocessing(config)


def _pretrained(create: partial[nn.Module], spec: ModelSpec) -> nn.Module:
    try:
        return call(partial(create, pretrained=True), spec.reference, spec.arguments)
    except ModelError as error:
        call(create, spec.reference, spec.arguments)  # which fails where the arguments are wrong
        cause = error.__cause__ or error
        raise ModelError(
            f"the weights of {spec.reference!r} could not be fetched ({one_line(cause)}): "
            "set model.weights to a file, or model.pretrained = false"
        ) from cause


def preprocessing(config: Mapping[str, Any]) -> PreprocessingSpec | None:
    """Turns timm's data configuration into ours: what `timm.data.create_transform` makes of it.

    Gives None where images would be padded, have other than three channels, or be read between
    pixels in another way than ours.
    """
    channels, *size = config["input_size"]
    height, width = size
    mode, interpolation = config["crop_mode"], config["interpolation"]
    square = height == width
    if channels != 3 or interpolation not in get_args(Interpolation):
        return None
    if mode not in ("center", "squash") or (mode == "center" and not square):
        return None
    larger = [math.floor(side / config["crop_pct"]) for side in size]
    return PreprocessingSpec(
        resize=larger[0] if mode == "center" else (larger[0], larger[1]),
        crop=height if square else (height, width),
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation=interpolation,
    )
