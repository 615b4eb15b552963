"""The model that an atlas was built from, loaded once more.

An atlas may come from anyone, and its header names the model: a function of any module of this
machine, with any arguments, is a program of a stranger's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn

from circuit_atlas.jobs.network.load import load_model
from circuit_atlas.jobs.spec.model import COLLECTIONS, ModelSpec
from circuit_atlas.storage_schema.errors import CorruptError, ModelError
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wording import one_line

# What a build writes of the model into the header. Nothing else is taken from there: where code and
# weights lie is for whoever reads the atlas to say.
_STORED = ("reference", "arguments")
_TRUST = "look at that first, and give --trust-code to run it"


def load_atlas_model(
    reader: Reader, *, weights: str | Path | None = None, trust_code: bool = False
) -> nn.Module:
    """Load the model that an atlas names, in evaluation mode on the processor.

    Args:
        reader: the atlas.
        weights: a file of weights; an atlas does not say where such a file lies. Default: the
            model's own.
        trust_code: run the code that the atlas names. Default: only models of torchvision, timm and
            the demo are loaded, and with no arguments but numbers.

    Raises:
        ModelError: the model or the file cannot be loaded, is code that is not trusted, or has
            other weights than the atlas was built from.
        CorruptError: the atlas names no model.
    """
    location = reader.objects.location
    try:
        named = json.loads(reader.header.spec)["model"]
        file = None if weights is None else str(Path(weights).expanduser())
        stored = {key: named[key] for key in _STORED if key in named}
        spec = ModelSpec(**stored, weights=file)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CorruptError(
            f"the header of {location} names no model ({one_line(error)}): restore it from a copy"
        ) from error
    if not trust_code:
        _require_no_code(spec, location)
    loaded = load_model(spec)
    if loaded.sha256 != reader.header.weights_sha256:
        raise ModelError(
            f"{spec.reference!r} has weights {loaded.sha256[:12]} here, and {location} was built "
            f"with {reader.header.weights_sha256[:12]}: give the file of those, weights="
        )
    return loaded.module


def _require_no_code(spec: ModelSpec, location: str) -> None:
    """ModelError where loading a model would run what the atlas says."""
    if spec.reference.partition(":")[0] not in COLLECTIONS:
        raise ModelError(
            f"{location} names the model {spec.reference!r}: a function that would be run here, "
            f"and an atlas may come from anyone; {_TRUST}"
        )
    odd = _no_number(spec.arguments)
    if odd is not None:
        raise ModelError(
            f"{location} names {spec.reference!r} with {odd} = {spec.arguments[odd]!r}: an "
            "argument that is no number may be a file or an address to load, and an atlas may come "
            f"from anyone; {_TRUST}"
        )


def _no_number(arguments: Mapping[str, Any]) -> str | None:
    """The first argument that is more than a number or a yes or no."""
    return next((n for n, value in arguments.items() if not isinstance(value, int | float)), None)
