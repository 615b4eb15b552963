"""Visualizations: an image that drives one unit or channel, and the record that it is made by.

A visualization lies apart from the unit's commit and comes after it, or never. It is there when its
record is, which is put last and only if absent; the image lies beside it under a name that holds
the attempt's number. Keys are as those of units; for a channel of a convolution upstream of a
layer, the key's layer is the convolution's name.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Annotated, Literal

from msgspec import Meta

from circuit_atlas.storage_schema import documents, visualization_paths
from circuit_atlas.storage_schema.attempts import attempted
from circuit_atlas.storage_schema.bounds import (
    Count,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Seconds,
    Seed,
    Side,
    UnitNumber,
)
from circuit_atlas.storage_schema.commit import ONE, Failure, StoredObject
from circuit_atlas.storage_schema.document_schema import stored_keys
from circuit_atlas.storage_schema.documents import seal, sha256
from circuit_atlas.storage_schema.header import Ablation
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.records import FailureRecord, Receipt
from circuit_atlas.storage_schema.visualization_plan import VisualizationPlan

Sign = Literal["positive", "negative"]

OBJECTIVE = "peaks"
"""The mean of y, the unit's output as the layer gives it, over the fifth of the positions where it
is largest, or smallest for a negative one."""


@dataclass(frozen=True)
class FeatureCircuit:
    """Describes the circuit that a visualization is made through."""

    criterion: Annotated[Name, "Which score chose its kernels."]
    ablation: Annotated[Ablation, "What stands for a dropped kernel: `zero` or `mean`."]
    fraction: Annotated[Fraction, "The kept fraction."]
    kernels: Annotated[Count, "How many kernels it holds."]
    group: Annotated[
        UnitNumber | None, "The sub-feature group, as in `groups`; null for all images."
    ]
    images: Annotated[
        tuple[UnitNumber, ...] | None,
        "Ids of the images whose mean score chose it; null for all scoring images.",
    ]


@dataclass(frozen=True)
class FeatureRecord:
    """Describes a visualization: what it was made for, and how well it does that."""

    model: Annotated[Name, "Model reference, as in the header."]
    layer: Annotated[Name, "Layer of the unit, or name of the convolution."]
    unit: Annotated[UnitNumber, "Unit of the layer, or output channel of the convolution."]
    variant: Annotated[
        Name,
        "Its name: the sign; with a circuit also criterion and fraction, and `groupN` of a group.",
    ]
    sign: Annotated[Sign, "`positive`: made for the largest response; `negative`: the smallest."]
    circuit: Annotated[FeatureCircuit | None, "The circuit it runs through; null: the network."]
    objective: Annotated[
        str,
        "What is made large or small. `peaks`: the mean of y over the fifth of the positions where "
        "it is largest, or smallest for `negative`.",
    ]
    seed: Annotated[Seed, "With layer and unit, the seed of the noise that the image starts as."]
    steps: Annotated[Count, "Steps of gradient ascent."]
    learning_rate: Annotated[NotNegative, "Adam's, on the image's Fourier coefficients."]
    height: Annotated[Side, "Height of the image, in pixels."]
    width: Annotated[Side, "Width of the image, in pixels."]
    tries: Annotated[
        Positive, "Which try it is of: each starts from other noise, and takes longer."
    ]
    response: Annotated[float, "The objective at the image as stored, with 8 bits a colour."]
    best_image_response: Annotated[
        float,
        "The largest objective of any image of the set, or the smallest for `negative`.",
    ] = field(metadata={"stored_as": "photo_response"})
    best_image: Annotated[UnitNumber, "Id of that image."] = field(metadata={"stored_as": "photo"})
    beats_images: Annotated[bool, "Whether `response` is beyond that of every image."] = field(
        metadata={"stored_as": "beats_photos"}
    )
    contrast: Annotated[
        Annotated[float, Meta(ge=0, le=1)],
        "Root mean square distance from mid-grey; 0.5 at most.",
    ]
    attempt: Annotated[UnitNumber, "Number in the image's name."]
    objects: Annotated[tuple[StoredObject, ...], ONE, "The image."]
    compute_s: Annotated[Seconds, "Time the image took its worker, in seconds."]

    @property
    def key(self) -> UnitKey:
        """Return the key of the unit or channel."""
        return UnitKey(self.model, self.layer, self.unit)

    @property
    def image(self) -> StoredObject:
        """Return the PNG."""
        return self.objects[0]

    def to_json(self) -> str:
        """Return the text of the record."""
        content = asdict(self)
        return seal({stored: content[name] for name, stored in stored_keys(FeatureRecord).items()})

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> FeatureRecord:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(
            cls, text, location=location, what="record of a feature visualization"
        )

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        folder = visualization_paths.visualizations(self.layer, self.unit)
        if not self.image.path.startswith(f"{folder}/"):
            return f"names `{self.image.path}`, which is no image of the unit"
        return None

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> FeatureRecord:
        """Do the same for what lies at a path; CorruptError where it is that of another one."""
        record = cls.from_json(data, location=objects.at(path))
        own = visualization_paths.visualization(record.layer, record.unit, record.variant)
        require_own(objects, path, own, what=f"the record of {record.key} {record.variant}")
        return record


def variant_name(
    sign: Sign, criterion: str | None = None, fraction: float = 1.0, group: int | None = None
) -> str:
    """Return the short name of a kind of visualization.

    >>> variant_name("positive"), variant_name("negative", "actgrad", 0.1)
    ('positive', 'negative.actgrad.0.1')
    >>> variant_name("positive", "actgrad", 0.1, 0)
    'positive.actgrad.0.1.group0'
    """
    if criterion is None:
        return sign
    return f"{sign}.{criterion}.{fraction:g}" + ("" if group is None else f".group{group}")


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
        self._objects.put_if_absent(visualization_paths.visualization_plan(sha256(data)), data)

    def commit(self, record: FeatureRecord, png: bytes) -> FeatureRecord:
        """Store an image; its record, or that of whoever stored the variant before.

        Args:
            record: all but `attempt` and `objects`, which are found here.
            png: the image.

        Raises:
            ContestedError: every number that was drawn is another attempt's.
            WriteError: the store refused; nothing stored was altered.
        """
        whole = attempted(partial(self._put_image, record, png))
        path = visualization_paths.visualization(record.layer, record.unit, record.variant)
        if self._objects.put_if_absent(path, whole.to_json().encode()):
            return whole
        return FeatureRecord.stored_at(self._objects, path, self._objects.get(path))

    def _put_image(self, record: FeatureRecord, png: bytes, attempt: int) -> FeatureRecord:
        path = visualization_paths.visualization_image(
            record.layer, record.unit, record.variant, attempt
        )
        self._objects.put_new(path, png)
        stored = StoredObject(path, len(png), sha256(png))
        return replace(record, attempt=attempt, objects=(stored,))

    def fail(self, record: FailureRecord) -> Receipt:
        """Record that an attempt at a unit's visualizations failed.

        Raises:
            ContestedError: every number that was drawn is another attempt's.
            WriteError: the store refused.
        """
        return attempted(partial(self._put_failure, record))

    def _put_failure(self, record: FailureRecord, attempt: int) -> Receipt:
        data = Failure(time.time(), record, attempt).to_json().encode()
        path = visualization_paths.visualization_failure(record.key.layer, record.key.unit, attempt)
        self._objects.put_new(path, data)
        return Receipt(
            record.key, "failed", attempt, len(data), 0.0, kind=record.kind, message=record.message
        )
