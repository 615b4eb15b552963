"""Paths of what the images do to the units of a layer."""

from __future__ import annotations

import re

from circuit_atlas.storage_schema.layer_paths import layer
from circuit_atlas.storage_schema.segments import unescape

CHANNELS_OF_CHUNKS = "channels"
_RESPONSE_CHUNK = re.compile(
    r"layers/[^/]+/responses/(?:[0-9a-f]{64}|channels)/(\d+)-([0-9a-f]{64})\.parquet"
)
_DISTRIBUTIONS = re.compile(r"layers/[^/]+/responses/([0-9a-f]{64})\.parquet")
_RESPONSES = re.compile(r"layers/[^/]+/responses/[0-9a-f]{64}\.json")


def responses(layer_name: str) -> str:
    """Return the path of the folder of what the images do to a layer's units."""
    return f"{layer(layer_name)}/responses"


def response_chunks(layer_name: str, units: str) -> str:
    """Return the path of the folder of what chunks of images do to some units of a layer, or to
    the channels of its network, `CHANNELS_OF_CHUNKS`."""
    return f"{responses(layer_name)}/{units}"


def response_chunk(layer_name: str, units: str, chunk: int, sha256: str) -> str:
    """Return the path of what one chunk of images does to some units of a layer."""
    return f"{response_chunks(layer_name, units)}/{chunk}-{sha256}.parquet"


def chunk_of_responses(path: str) -> tuple[int, str] | None:
    """Return number and SHA-256 of the chunk of responses at `path`, or None where it is none."""
    match = _RESPONSE_CHUNK.fullmatch(path)
    return (int(match[1]), match[2]) if match else None


def distributions(layer_name: str, units: str) -> str:
    """Return the path of the table of what all images do to some units of a layer."""
    return f"{responses(layer_name)}/{units}.parquet"


def is_distributions(path: str, units: str) -> bool:
    """Tell whether such a table lies at `path`, of those units of any layer."""
    match = _DISTRIBUTIONS.fullmatch(path)
    return match is not None and match[1] == units


def responses_record(layer_name: str, units: str) -> str:
    """Return the path of the record of that table."""
    return f"{responses(layer_name)}/{units}.json"


def record_of_distributions(path: str) -> str | None:
    """Return the path of the record of the table at `path`, or None where it is no such table."""
    return f"{path.removesuffix('.parquet')}.json" if _DISTRIBUTIONS.fullmatch(path) else None


def responses_layer(path: str) -> str:
    """Return the layer whose responses, or record of them, lie at `path`."""
    return unescape(path.split("/")[1])


def is_responses(path: str) -> bool:
    """Tell whether the record of a table of responses lies at `path`."""
    return _RESPONSES.fullmatch(path) is not None
