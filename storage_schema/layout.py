"""Every path in the store, relative to the atlas' root, and those outside its layers' folders.

Those inside are in `layer_paths` and `response_paths`, and those of feature visualizations in
`visualization_paths`.
"""

from __future__ import annotations

import re

from circuit_atlas.storage_schema.segments import escape

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
_PLAN = re.compile(r"plans/[0-9a-f]{64}\.json")
_HEARTBEAT = re.compile(rf"{RUNS}/[^/]+\.json")
_OF_RUN = re.compile(rf"{RUNS}/(?:builds/|claims/[^/]+/[^/]+/)?[^/]+\.json")
_SET_ASIDE = re.compile(rf"{SET_ASIDE}/([^/]+)/.+")


def most_bytes(path: str) -> int | None:
    """Return how long the document at `path` can be; None where it is no document of ours.

    >>> most_bytes("layers/conv/commits/5.json"), most_bytes("atlas.json"), most_bytes("images.png")
    (4194304, 67108864, None)
    """
    if not path.endswith(".json") or path.endswith("/zarr.json"):
        return None
    return SMALL_BYTES if _SMALL.match(path) else LARGE_BYTES


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


def plan(sha256: str) -> str:
    """Return the path of one plan."""
    return f"{PLANS}/{sha256}.json"


def is_plan(path: str) -> bool:
    """Tell whether a plan lies at `path`."""
    return _PLAN.fullmatch(path) is not None


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
