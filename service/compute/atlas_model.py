"""The model that an atlas was built from, loaded once more."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError
from torch import nn

from circuit_atlas.jobs.network.load import load_model
from circuit_atlas.jobs.spec.messages import describe
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.reader import Reader


def load_atlas_model(reader: Reader, *, weights: str | Path | None = None) -> nn.Module:
    """Load the model that an atlas names, in evaluation mode on the processor.

    Args:
        reader: the atlas.
        weights: a file of weights; an atlas does not say where such a file lies. Default: the
            model's own.

    Raises:
        ModelError: the model or the file cannot be loaded.
        CorruptError: what the atlas names is no model.
    """
    named = reader.header.spec_content["model"]
    file = None if weights is None else str(Path(weights).expanduser())
    try:
        spec = ModelSpec.model_validate({**named, "weights": file})
    except ValidationError as error:
        raise CorruptError(
            f"{reader.objects.at(layout.HEADER)} has a spec of no model that can be loaded "
            f"({describe(error, ModelSpec)}): restore it from a copy"
        ) from error
    return load_model(spec).module
