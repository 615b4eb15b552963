"""The model that an atlas was built from, loaded once more."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from circuit_atlas.jobs.network.load import load_model
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.storage_schema.reader import Reader


def load_atlas_model(reader: Reader, *, weights: str | Path | None = None) -> nn.Module:
    """Load the model that an atlas names, in evaluation mode on the processor.

    Args:
        reader: the atlas.
        weights: a file of weights; an atlas does not say where such a file lies. Default: the
            model's own.

    Raises:
        ModelError: the model or the file cannot be loaded.
    """
    named = json.loads(reader.header.spec)["model"]
    file = None if weights is None else str(Path(weights).expanduser())
    return load_model(ModelSpec(**named, weights=file)).module
