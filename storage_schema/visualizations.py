"""Visualizations: a picture that drives one unit or channel, and the record that it is made by.

A visualization lies apart from the unit's commit and comes after it, or never. It is there when its
record is, which is put last and only if absent; the picture lies beside it under a name that holds
the attempt's number. Keys are as those of units; for a channel of a convolution upstream of a
layer, the key's layer is the convolution's name.
"""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from circuit_atlas.storage_schema import arrays, layout
from circuit_atlas.storage_schema.commit import Failure, StoredObject
from circuit_atlas.storage_schema.documents import seal, sha256, unseal
from circuit_atlas.storage_schema.errors import CorruptError, WriteError
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan

Sign = Literal["positive", "negative"]

FEATURES = "features"
OBJECTIVE = "peaks"
"""The mean of y, the unit's output as the layer gives it, over the fifth of the positions where it
is largest, or smallest for a negative picture."""

PATHS: tuple[tuple[str, str], ...] = (
    (
        f"{FEATURES}/<layer>/<unit>/<variant>.<attempt>.png",
        "A picture made to drive a unit, or a channel of the convolution of that name.",
    ),
    (
        f"{FEATURES}/<layer>/<unit>/<variant>.json",
        "The feature visualization is done: put last, and only if absent.",
    ),
    (f"{FEATURES}/<layer>/failures/<unit>.<attempt>.json", "Why one attempt at pictures failed."),
    (
        f"{FEATURES}/plans/<sha256>.json",
        "Which pictures one run asked for; put before any of them.",
    ),
)

_RECORD = re.compile(rf"{FEATURES}/([^/]+)/(\d+)/([^/]+)\.json")
_PLAN = re.compile(rf"{FEATURES}/plans/[0-9a-f]{{64}}\.json")
_FAILURE = re.compile(rf"{FEATURES}/[^/]+/failures/(\d+)\.(\d+)\.json")


@dataclass(frozen=True)
class FeatureCircuit:
    """The circuit that a picture is made through."""

    criterion: Annotated[str, "Which score chose its kernels."]
    ablation: Annotated[str, "What stands for a dropped kernel: `zero` or `mean`."]
    fraction: Annotated[float, "The kept fraction."]
    kernels: Annotated[int, "How many kernels it holds."]
    group: Annotated[int | None, "The sub-feature group, as in `groups`; null for all images."]
    images: Annotated[
        tuple[int, ...] | None,
        "Ids of the images whose mean score chose it; null for all scoring images.",
    ]


@dataclass(frozen=True)
class FeatureRecord:
    """A picture, what it was made for, and how well it does that."""

    model: Annotated[str, "Model reference, as in the header."]
    layer: Annotated[str, "Layer of the unit, or name of the convolution."]
    unit: Annotated[int, "Unit of the layer, or output channel of the convolution."]
    variant: Annotated[
        str,
        "Its name: the sign; with a circuit also criterion and fraction, and `groupN` of a group.",
    ]
    sign: Annotated[Sign, "`positive`: made for the largest response; `negative`: the smallest."]
    circuit: Annotated[FeatureCircuit | None, "The circuit it runs through; null: the network."]
    objective: Annotated[
        str,
        "What is made large or small. `peaks`: the mean of y over the fifth of the positions where "
        "it is largest, or smallest for `negative`.",
    ]
    seed: Annotated[int, "With layer and unit, the seed of the noise that the picture starts as."]
    steps: Annotated[int, "Steps of gradient ascent."]
    learning_rate: Annotated[float, "Adam's, on the picture's Fourier coefficients."]
    height: Annotated[int, "Height of the picture, in pixels."]
    width: Annotated[int, "Width of the picture, in pixels."]
    tries: Annotated[int, "Which try it is of: each starts from other noise, and takes longer."]
    response: Annotated[float, "The objective at the picture as stored, with 8 bits a colour."]
    photo_response: Annotated[
        float,
        "The largest objective of any image of the set, or the smallest for `negative`.",
    ]
    photo: Annotated[int, "Id of that image."]
    beats_photos: Annotated[bool, "Whether `response` is beyond `photo_response`."]
    contrast: Annotated[float, "Root mean square distance from mid-grey; 0.5 at most."]
    attempt: Annotated[int, "Number in the picture's name."]
    objects: Annotated[tuple[StoredObject, ...], "The picture."]
    compute_s: Annotated[float, "Time the picture took its worker, in seconds."]

    @property
    def key(self) -> UnitKey:
        """The key of the unit or channel."""
        return UnitKey(self.model, self.layer, self.unit)

    @property
    def picture(self) -> StoredObject:
        """The PNG."""
        return self.objects[0]

    def to_json(self) -> str:
        """The text of the record."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, place: str) -> FeatureRecord:
        """The inverse of `to_json`; CorruptError or SchemaError where it cannot be read."""
        content = unseal(text, place=place)
        content.pop("schema", None)
        try:
            circuit: dict[str, Any] | None = content["circuit"]
            if circuit is not None:
                images = circuit["images"]
                images = None if images is None else tuple(images)
                content["circuit"] = FeatureCircuit(**{**circuit, "images": images})
            content["objects"] = tuple(StoredObject.of(one) for one in content["objects"])
            record = cls(**content)
            if not record.objects:
                raise KeyError("objects")
        except (KeyError, TypeError) as error:
            raise CorruptError(
                f"{place} is no record of a feature visualization: {error!r}"
            ) from error
        return record


def variant_name(
    sign: Sign, criterion: str | None = None, fraction: float = 1.0, group: int | None = None
) -> str:
    """The short name of a kind of picture.

    >>> variant_name("positive"), variant_name("negative", "actgrad", 0.1)
    ('positive', 'negative.actgrad.0.1')
    >>> variant_name("positive", "actgrad", 0.1, 0)
    'positive.actgrad.0.1.group0'
    """
    if criterion is None:
        return sign
    return f"{sign}.{criterion}.{fraction:g}" + ("" if group is None else f".group{group}")


def folder(layer: str, unit: int | None = None) -> str:
    """Where the pictures of a layer lie, or those of one unit."""
    whole = f"{FEATURES}/{layout.escape(layer)}"
    return whole if unit is None else f"{whole}/{unit}"


def record_path(layer: str, unit: int, variant: str) -> str:
    """The record of one picture."""
    return f"{folder(layer, unit)}/{layout.escape(variant)}.json"


def picture_path(layer: str, unit: int, variant: str, attempt: int) -> str:
    """The picture itself."""
    return f"{folder(layer, unit)}/{layout.escape(variant)}.{attempt}.png"


def recorded(path: str) -> tuple[int, str] | None:
    """Unit and variant of the record at `path`, or None where it is no record of a picture, nor
    where an atlas would have it at another path: systems leave files of their own in folders."""
    found = _RECORD.fullmatch(path)
    if found is None:
        return None
    layer, unit, variant = layout.unescape(found[1]), int(found[2]), layout.unescape(found[3])
    return (unit, variant) if record_path(layer, unit, variant) == path else None


def failed_unit(path: str) -> int | None:
    """The unit whose failure lies at `path`, or None where it is no failure at pictures."""
    found = _FAILURE.fullmatch(path)
    return int(found[1]) if found else None


def is_plan(path: str) -> bool:
    """Whether a plan of pictures lies at `path`."""
    return _PLAN.fullmatch(path) is not None


def variants(objects: Objects, layer: str) -> dict[int, tuple[str, ...]]:
    """See `Reader.feature_variants`."""
    found: dict[int, list[str]] = {}
    for entry in objects.list(folder(layer)):
        if (named := recorded(entry.path)) is not None:
            found.setdefault(named[0], []).append(named[1])
    return {unit: tuple(sorted(names)) for unit, names in sorted(found.items())}


def records(objects: Objects, layer: str, unit: int) -> tuple[FeatureRecord, ...]:
    """See `Reader.feature_visualizations`."""
    paths = [entry.path for entry in objects.list(folder(layer, unit)) if recorded(entry.path)]
    found = [
        FeatureRecord.from_json(data, place=objects.at(path))
        for path, data in zip(paths, objects.get_listed(paths), strict=True)
    ]
    return tuple(sorted(found, key=_rank))


def record(objects: Objects, layer: str, unit: int, variant: str) -> FeatureRecord | None:
    """See `Reader.feature_visualization`."""
    path = record_path(layer, unit, variant)
    try:
        data = objects.get(path)
    except FileNotFoundError:
        return None
    return FeatureRecord.from_json(data, place=objects.at(path))


def picture(objects: Objects, record: FeatureRecord) -> bytes:
    """See `Reader.visualization_image`."""
    place = objects.at(record.picture.path)
    try:
        data = objects.get(record.picture.path)
    except FileNotFoundError as error:
        raise CorruptError(f"{error}, and it is recorded: restore it from a copy") from error
    if sha256(data) != record.picture.sha256:
        raise CorruptError(f"{place} is cut or altered: restore it from a copy")
    return data


def _rank(record: FeatureRecord) -> tuple[object, ...]:
    """The whole network first, then circuits from the largest on, groups after all images."""
    circuit, negative = record.circuit, record.sign == "negative"
    if circuit is None:
        return (0, negative)
    group = -1 if circuit.group is None else circuit.group
    return (1, circuit.criterion, -circuit.fraction, group, negative)


class FeatureWriter:
    """Writes feature visualizations beside an atlas that is there."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    def plan(self, plan: VisualizationPlan) -> None:
        """Store what is to be made, unless the same was asked for before.

        Raises:
            WriteError: the store refused.
        """
        data = plan.to_json().encode()
        self._objects.put_if_absent(f"{FEATURES}/plans/{sha256(data)}.json", data)

    def commit(self, record: FeatureRecord, png: bytes) -> FeatureRecord:
        """Store a picture; its record, or that of whoever stored the variant before.

        Args:
            record: all but `attempt` and `objects`, which are found here.
            png: the picture.

        Raises:
            WriteError: the store refused; nothing stored was altered.
        """
        attempt = secrets.randbelow(arrays.ATTEMPTS)
        path = picture_path(record.layer, record.unit, record.variant, attempt)
        if not self._objects.put_if_absent(path, png):
            raise WriteError(
                f"{self._objects.at(path)} is there already: two attempts drew the same number; "
                "run again"
            )
        stored = StoredObject(path, len(png), sha256(png))
        whole = replace(record, attempt=attempt, objects=(stored,))
        path = record_path(record.layer, record.unit, record.variant)
        if self._objects.put_if_absent(path, whole.to_json().encode()):
            return whole
        return FeatureRecord.from_json(self._objects.get(path), place=self._objects.at(path))

    def fail(self, record: FailureRecord) -> Receipt:
        """Record that an attempt at a unit's pictures failed.

        Raises:
            WriteError: the store refused.
        """
        attempt = secrets.randbelow(arrays.ATTEMPTS)
        data = Failure(time.time(), record).to_json().encode()
        path = f"{folder(record.key.layer)}/failures/{record.key.unit}.{attempt}.json"
        self._objects.put_if_absent(path, data)
        return Receipt(
            record.key, "failed", attempt, len(data), 0.0, kind=record.kind, message=record.message
        )
