"""Every path in the store, relative to the atlas' root.

Names that users choose (layers, criteria) are escaped, so that one name is one folder on every
kind of store: letters, digits, `_`, `-` and inner dots stay, every other byte becomes `=XX`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

HEADER = "atlas.json"
IMAGES = "images.parquet"
IMAGES_RECORD = "images.json"
PREPARED = "prepared"
LAYERS = "layers"
PLANS = "plans"
VISUALIZATIONS = "features"
RUNS = "runs"
BUILDS = f"{RUNS}/builds"
CLAIMS = f"{RUNS}/claims"
SET_ASIDE = "set-aside"
CHANNELS_OF_CHUNKS = "channels"
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

PATHS: tuple[tuple[str, str], ...] = (
    (HEADER, "What the atlas was built from; put first, and only if absent."),
    (IMAGES, "One row an image."),
    (
        IMAGES_RECORD,
        "Size and SHA-256 of `images.parquet` and of every chunk of pixels, and how these are laid "
        "out.",
    ),
    (
        f"{PREPARED}/pixels/<sha256>",
        "The pixels of some images, one after the other, as they are before normalisation.",
    ),
    (
        f"{PREPARED}/<source>/<chunk>.json",
        "The chunk is prepared: what was found of its images, and where its pixels lie.",
    ),
    (
        f"{PREPARED}/<source>/whole.json",
        "All images of the source are prepared: the fingerprint of the set that they are.",
    ),
    (f"{PLANS}/<sha256>.json", "Which layers and units one build asked for."),
    (f"{LAYERS}/<layer>/layer.json", "Units and kernel axis of a layer; its arrays are laid out."),
    (
        f"{LAYERS}/<layer>/directions.parquet",
        "The layer's directions, where they came from a file.",
    ),
    (
        f"{LAYERS}/<layer>/labels/<number>.json",
        "What its units stand for; the largest number counts.",
    ),
    (
        f"{LAYERS}/<layer>/network.json",
        "Size and SHA-256 of the three that follow; put last of them, and before any unit.",
    ),
    (f"{LAYERS}/<layer>/wiring.json", "Which channels of the layer's network feed which."),
    (f"{LAYERS}/<layer>/weights.parquet", "The weights of its convolutions."),
    (f"{LAYERS}/<layer>/channels.parquet", "Where each channel of them responds most."),
    (
        f"{LAYERS}/<layer>/responses/<units>/<chunk>-<sha256>.parquet",
        "What a chunk of the images does to some of its units, whose numbers have that digest; the "
        "name has the file's SHA-256.",
    ),
    (
        f"{LAYERS}/<layer>/responses/channels/<chunk>-<sha256>.parquet",
        "Where each channel of the layer's network responds most in a chunk of the images; named "
        "likewise.",
    ),
    (
        f"{LAYERS}/<layer>/responses/<units>.parquet",
        "Top images and distribution of the responses of each of these units.",
    ),
    (
        f"{LAYERS}/<layer>/responses/<units>.json",
        "Which units these are, with size and SHA-256 of that table; put last, and before any of "
        "them.",
    ),
    (f"{LAYERS}/<layer>/arrays.zarr/", "One Zarr v3 group a layer, laid out as metadata alone."),
    (
        f"{LAYERS}/<layer>/units/<unit>/<attempt>/<table>.parquet",
        "One unit's rows of one table, written by one attempt.",
    ),
    (f"{LAYERS}/<layer>/commits/<unit>.json", "The unit is done: put last, and only if absent."),
    (f"{LAYERS}/<layer>/failures/<unit>.<attempt>.json", "Why one attempt at a unit failed."),
    (
        f"{LAYERS}/<layer>/sealed/<generation>/<table>.parquet",
        "The rows of one table, the commit records or the masks of all units committed by then.",
    ),
    (
        f"{LAYERS}/<layer>/sealed/<generation>/manifest.json",
        "The generation is whole: names its files, and is put last, and only if absent.",
    ),
    (
        f"{VISUALIZATIONS}/<layer>/<unit>/<variant>.<attempt>.png",
        "An image made to drive a unit, or a channel of the convolution of that name.",
    ),
    (
        f"{VISUALIZATIONS}/<layer>/<unit>/<variant>.json",
        "The feature visualization is done: put last, and only if absent.",
    ),
    (
        f"{VISUALIZATIONS}/<layer>/failures/<unit>.<attempt>.json",
        "Why one attempt at feature visualizations failed.",
    ),
    (
        f"{VISUALIZATIONS}/plans/<sha256>.json",
        "Which feature visualizations one run asked for; put before any of them.",
    ),
    (
        f"{RUNS}/<worker>.json",
        "What a worker is at: replaced every few seconds, removed when its task ends, and named by "
        "no record.",
    ),
    (
        f"{BUILDS}/<build>.json",
        "The build runs: replaced every few seconds, removed at its end, and named by no record.",
    ),
    (
        f"{CLAIMS}/<stage>/<layer>/<noun>-<number>.json",
        "A build is at some of these units, the four from four times that number: a hint to other "
        "builds; put only if absent, removed when they are done, and named by no record.",
    ),
    (
        f"{SET_ASIDE}/<repair>/",
        "What one repair took out of the atlas, below the path that it had: damaged, or worth "
        "nothing without what was. Nothing reads it, and `delete-set-aside` frees its space.",
    ),
)

SMALL_BYTES = 2**22
"""How long a document is at most that is of one unit, worker or chunk."""
LARGE_BYTES = 2**26
"""How long one is that names all units or files of a layer or an atlas."""
_SMALL = re.compile(
    rf"layers/[^/]+/(commits|failures|network)\b|{VISUALIZATIONS}/(?!plans/)|{RUNS}/|{PREPARED}/"
)
_PREPARED = re.compile(rf"{PREPARED}/([0-9a-f]{{64}})/(\d+|whole)\.json")
_PLAIN = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PLAN = re.compile(r"plans/[0-9a-f]{64}\.json")
_LAYER_INDEX = re.compile(r"layers/[^/]+/layer\.json")
_LABELS = re.compile(r"layers/[^/]+/labels/(\d+)\.json")
_NETWORK = re.compile(r"layers/[^/]+/network\.json")
_RESPONSE_CHUNK = re.compile(
    r"layers/[^/]+/responses/(?:[0-9a-f]{64}|channels)/(\d+)-([0-9a-f]{64})\.parquet"
)
_DISTRIBUTIONS = re.compile(r"layers/[^/]+/responses/[0-9a-f]{64}\.parquet")
_RESPONSES = re.compile(r"layers/[^/]+/responses/[0-9a-f]{64}\.json")
_DISTRIBUTIONS = re.compile(r"layers/[^/]+/responses/([0-9a-f]{64})\.parquet")
_COMMIT = re.compile(r"layers/[^/]+/commits/(\d+)\.json")
_FAILURE = re.compile(r"layers/[^/]+/failures/(\d+)\.(\d+)\.json")
_VISUALIZATION = re.compile(rf"{VISUALIZATIONS}/([^/]+)/(\d+)/([^/]+)\.json")
_VISUALIZATION_PLAN = re.compile(rf"{VISUALIZATIONS}/plans/[0-9a-f]{{64}}\.json")
_VISUALIZATION_FAILURE = re.compile(rf"{VISUALIZATIONS}/[^/]+/failures/(\d+)\.(\d+)\.json")
_HEARTBEAT = re.compile(rf"{RUNS}/[^/]+\.json")
_OF_RUN = re.compile(rf"{RUNS}/(?:builds/|claims/[^/]+/[^/]+/)?[^/]+\.json")
_SEALED = re.compile(r"layers/[^/]+/sealed/(\d+-[0-9a-f]{8})/[^/]+")
_MANIFEST = re.compile(r"layers/[^/]+/sealed/(\d+-[0-9a-f]{8})/manifest\.json")
_SET_ASIDE = re.compile(rf"{SET_ASIDE}/([^/]+)/.+")


def most_bytes(path: str) -> int | None:
    """Return how long the document at `path` can be; None where it is no document of ours.

    >>> most_bytes("layers/conv/commits/5.json"), most_bytes("atlas.json"), most_bytes("images.png")
    (4194304, 67108864, None)
    """
    if not path.endswith(".json") or path.endswith("/zarr.json"):
        return None
    return SMALL_BYTES if _SMALL.match(path) else LARGE_BYTES


def escape(name: str) -> str:
    """Write a name as one path segment.

    >>> escape("features.7.expand3x3"), escape("a/../b"), escape(".."), escape("")
    ('features.7.expand3x3', 'a=2F=2E=2E=2Fb', '=2E=2E', '=')
    """
    if _PLAIN.fullmatch(name):
        return name
    return (
        "".join(
            character
            if character.isascii() and (character.isalnum() or character in "_-")
            else "".join(f"={byte:02X}" for byte in character.encode())
            for character in name
        )
        or "="
    )


def unescape(segment: str) -> str:
    """Invert `escape`. A segment that `escape` does not write, such as a folder that someone else
    made, becomes some text: nothing of an atlas lies at that name's path.

    >>> unescape("a=2Fb"), escape(unescape("=FF")) == "=FF"
    ('a/b', False)
    """
    if segment == "=":
        return ""
    raw = re.sub(
        rb"=([0-9A-F]{2})", lambda m: bytes([int(m.group(1), 16)]), segment.encode(errors="replace")
    )
    return raw.decode(errors="replace")


def pixels(sha256: str) -> str:
    """Return the path of a chunk of pixels."""
    return f"{PREPARED}/pixels/{sha256}"


def prepared(source: str) -> str:
    """Return the path of the folder of what is prepared of a source's images."""
    return f"{PREPARED}/{source}"


def prepared_chunk(source: str, chunk: int) -> str:
    """Return the path of the record of one chunk of a source's images."""
    return f"{prepared(source)}/{chunk}.json"


def prepared_whole(source: str) -> str:
    """Return the path of the record that a source's images are all prepared."""
    return f"{prepared(source)}/whole.json"


def is_prepared(path: str) -> bool:
    """Tell whether a record of prepared images lies at `path`."""
    return _PREPARED.fullmatch(path) is not None


def preparing(path: str) -> int | None:
    """Return the chunk whose record lies at `path`, or None where it is no such record."""
    match = _PREPARED.fullmatch(path)
    return int(match[2]) if match and match[2] != "whole" else None


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


def plan(sha256: str) -> str:
    """Return the path of one plan."""
    return f"{PLANS}/{sha256}.json"


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


def is_plan(path: str) -> bool:
    """Tell whether a plan lies at `path`."""
    return _PLAN.fullmatch(path) is not None


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


def visualizations(layer_name: str, unit: int | None = None) -> str:
    """Return the path of the visualizations of a layer or convolution, or of one of its units or
    channels."""
    folder = f"{VISUALIZATIONS}/{escape(layer_name)}"
    return folder if unit is None else f"{folder}/{unit}"


def visualization(layer_name: str, unit: int, variant: str) -> str:
    """Return the path of the record of one visualization."""
    return f"{visualizations(layer_name, unit)}/{escape(variant)}.json"


def visualization_image(layer_name: str, unit: int, variant: str, attempt: int) -> str:
    """Return the path of the image itself."""
    return f"{visualizations(layer_name, unit)}/{escape(variant)}.{attempt}.png"


def visualization_failure(layer_name: str, unit: int, attempt: int) -> str:
    """Return the path of one record of a failure at a unit's visualizations."""
    return f"{visualizations(layer_name)}/failures/{unit}.{attempt}.json"


def visualization_plan(sha256: str) -> str:
    """Return the path of one plan of visualizations."""
    return f"{VISUALIZATIONS}/plans/{sha256}.json"


def visualized(path: str) -> tuple[str, int, str] | None:
    """Return the layer, unit and variant of the visualization whose record lies at `path`.

    None where it is no such record, nor where an atlas would have it at another path: systems leave
    files of their own in folders.
    """
    match = _VISUALIZATION.fullmatch(path)
    if match is None:
        return None
    layer_name, unit, variant = unescape(match[1]), int(match[2]), unescape(match[3])
    return (layer_name, unit, variant) if visualization(layer_name, unit, variant) == path else None


def failed_visualization(path: str) -> int | None:
    """Return the unit whose failure lies at `path`, or None where it is no failure at
    visualizations."""
    match = _VISUALIZATION_FAILURE.fullmatch(path)
    return int(match[1]) if match else None


def is_visualization_plan(path: str) -> bool:
    """Tell whether a plan of visualizations lies at `path`."""
    return _VISUALIZATION_PLAN.fullmatch(path) is not None


def heartbeat(worker: str) -> str:
    """Return the path of a worker's heartbeat."""
    return f"{RUNS}/{escape(worker)}.json"


def is_heartbeat(path: str) -> bool:
    """Tell whether a worker's heartbeat lies at `path`."""
    return _HEARTBEAT.fullmatch(path) is not None


def build_mark(build: str) -> str:
    """Return the path of the mark that a build runs."""
    return f"{BUILDS}/{escape(build)}.json"


def claim(stage: str, layer_name: str, of: str, number: int) -> str:
    """Return the path of one claim of a stage, on units or whatever else `of` says."""
    return f"{CLAIMS}/{stage}/{escape(layer_name)}/{of}-{number}.json"


def is_of_run(path: str) -> bool:
    """Tell whether what lies at `path` is of a run: a worker's heartbeat, a build's mark or a
    claim. No record names it, and it goes with the run."""
    return _OF_RUN.fullmatch(path) is not None


def set_aside(repair: str, path: str) -> str:
    """Return where a repair keeps what it took from `path`."""
    return f"{SET_ASIDE}/{repair}/{path}"


def repair_of(path: str) -> str | None:
    """Return the repair that set aside what lies at `path`, or None where none did."""
    match = _SET_ASIDE.fullmatch(path)
    return match[1] if match else None
