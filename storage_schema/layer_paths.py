"""Paths of what lies in a layer's folder, its responses to the images aside."""

from __future__ import annotations

import re
from collections.abc import Iterable

from circuit_atlas.storage_schema.layout import LAYERS
from circuit_atlas.storage_schema.segments import escape, unescape

AFTER_INDEX = frozenset(
    (
        "network.json",
        "wiring.json",
        "weights.parquet",
        "channels.parquet",
        "labels",
        "responses",
        "units",
        "commits",
        "failures",
        "sealed",
    )
)
"""What a layer's folder has once the layer is laid out; before its index come arrays' metadata and
directions alone."""
_LAYER_INDEX = re.compile(r"layers/[^/]+/layer\.json")
_LABELS = re.compile(r"layers/[^/]+/labels/(\d+)\.json")
_NETWORK = re.compile(r"layers/[^/]+/network\.json")
_COMMIT = re.compile(r"layers/[^/]+/commits/(\d+)\.json")
_FAILURE = re.compile(r"layers/[^/]+/failures/(\d+)\.(\d+)\.json")
_SEALED = re.compile(r"layers/[^/]+/sealed/(\d+-[0-9a-f]{8})/[^/]+")
_MANIFEST = re.compile(r"layers/[^/]+/sealed/(\d+-[0-9a-f]{8})/manifest\.json")


def layer(layer: str) -> str:
    """Return the path of the layer's folder."""
    return f"{LAYERS}/{escape(layer)}"


def layer_of(path: str) -> str | None:
    """Return the layer whose folder the object at `path` lies in, or None where it is in none.

    >>> layer_of("layers/a=2Fb/commits/3.json"), layer_of("images.json")
    ('a/b', None)
    """
    folder, _, rest = path.partition("/")
    name, inside, _ = rest.partition("/")
    return unescape(name) if folder == LAYERS and inside else None


def layer_index(layer_name: str) -> str:
    """Return the path of the layer's index document."""
    return f"{layer(layer_name)}/layer.json"


def directions(layer_name: str) -> str:
    """Return the path of the layer's directions that came from a file."""
    return f"{layer(layer_name)}/directions.parquet"


def all_labels(layer_name: str) -> str:
    """Return the path of the folder of the labels of a layer's units."""
    return f"{layer(layer_name)}/labels"


def labels(layer_name: str, number: int) -> str:
    """Return the path of one set of labels of a layer's units."""
    return f"{all_labels(layer_name)}/{number}.json"


def labelling(path: str) -> int | None:
    """Return the number of the set of labels at `path`, or None where it is no such set."""
    match = _LABELS.fullmatch(path)
    return int(match.group(1)) if match else None


def network(layer_name: str) -> str:
    """Return the path of the record of what is stored of the layer's network."""
    return f"{layer(layer_name)}/network.json"


def wiring(layer_name: str) -> str:
    """Return the path of the document that joins the layer's convolutions."""
    return f"{layer(layer_name)}/wiring.json"


def weights(layer_name: str) -> str:
    """Return the path of the weights of the layer's convolutions."""
    return f"{layer(layer_name)}/weights.parquet"


def channels(layer_name: str) -> str:
    """Return the path of the top crops of the channels of the layer's convolutions."""
    return f"{layer(layer_name)}/channels.parquet"


def arrays(layer_name: str) -> str:
    """Return the path of the layer's Zarr group."""
    return f"{layer(layer_name)}/arrays.zarr"


def array(layer_name: str, name: str, criterion: str | None = None) -> str:
    """Return the path of one array of the group: a criterion's, or one that a unit has once."""
    path = f"{arrays(layer_name)}/{name}"
    return path if criterion is None else f"{path}/{escape(criterion)}"


def fragment(layer_name: str, unit: int, attempt: int, table: str) -> str:
    """Return the path of one unit's rows of one table."""
    return f"{layer(layer_name)}/units/{unit}/{attempt}/{table}.parquet"


def is_of_unit(path: str, layer_name: str, unit: int) -> bool:
    """Tell whether a chunk or fragment of that unit may lie at `path`."""
    chunk = path.rsplit("/", 1)[-1].startswith(f"c.{unit}.")
    fragments = f"{layer(layer_name)}/units/{unit}/"
    return path.startswith(fragments) or (chunk and path.startswith(f"{arrays(layer_name)}/"))


def outside_unit(paths: Iterable[str], layer_name: str, unit: int, attempt: int) -> str | None:
    """Return the first of some paths at which neither a chunk of one attempt at a unit lies nor a
    fragment of its layer; None where there is none."""
    folder = layer(layer_name)
    fragments, chunks = f"{folder}/units/", f"{folder}/arrays.zarr/"
    chunk = f"/c.{unit}.{attempt}."
    foreign = [
        path
        for path in paths
        if not path.startswith(fragments) and not (chunk in path and path.startswith(chunks))
    ]
    return foreign[0] if foreign else None


def commits(layer_name: str) -> str:
    """Return the path of the folder of the layer's commit records."""
    return f"{layer(layer_name)}/commits"


def commit(layer_name: str, unit: int) -> str:
    """Return the path of the unit's commit record."""
    return f"{commits(layer_name)}/{unit}.json"


def failures(layer_name: str) -> str:
    """Return the path of the folder of the layer's failure records."""
    return f"{layer(layer_name)}/failures"


def failure(layer_name: str, unit: int, attempt: int) -> str:
    """Return the path of one failure record."""
    return f"{failures(layer_name)}/{unit}.{attempt}.json"


def sealed(layer_name: str) -> str:
    """Return the path of the folder of the layer's sealed generations."""
    return f"{layer(layer_name)}/sealed"


def sealed_file(layer_name: str, generation: str, name: str) -> str:
    """Return the path of one Parquet file of a sealed generation."""
    return f"{sealed(layer_name)}/{generation}/{name}.parquet"


def manifest(layer_name: str, generation: str) -> str:
    """Return the path of the document that makes a sealed generation whole."""
    return f"{sealed(layer_name)}/{generation}/manifest.json"


def committed_unit(path: str) -> int | None:
    """Return the unit whose commit record lies at `path`, or None where it is no commit record."""
    match = _COMMIT.fullmatch(path)
    return int(match.group(1)) if match else None


def failed_unit(path: str) -> int | None:
    """Return the unit whose failure lies at `path`, or None where it is no failure record."""
    match = _FAILURE.fullmatch(path)
    return int(match.group(1)) if match else None


def failed_attempt(path: str) -> int:
    """Return the attempt whose failure lies at `path`, a unit's or at visualizations."""
    return int(path.rsplit(".", 2)[1])


def generation_of(path: str) -> str | None:
    """Return the sealed generation that the file at `path` is of, or None where it is of none."""
    match = _SEALED.fullmatch(path)
    return match.group(1) if match else None


def is_manifest(path: str) -> bool:
    """Tell whether the manifest of a sealed generation lies at `path`."""
    return _MANIFEST.fullmatch(path) is not None


def is_layer_index(path: str) -> bool:
    """Tell whether a layer's index document lies at `path`."""
    return _LAYER_INDEX.fullmatch(path) is not None


def is_network(path: str) -> bool:
    """Tell whether the record of a layer's network lies at `path`."""
    return _NETWORK.fullmatch(path) is not None


def network_of_object(path: str) -> str:
    """Return the path of the network's record that names the object at `path`."""
    return path.rsplit("/", 1)[0] + "/network.json"


def network_of_commit(path: str) -> str:
    """Return the path of the network's record, for the layer whose commit record lies at `path`."""
    return path.rsplit("/", 2)[0] + "/network.json"


def index_of_commit(path: str) -> str:
    """Return the path of the index document, for the layer whose commit record lies at `path`."""
    return path.rsplit("/", 2)[0] + "/layer.json"
