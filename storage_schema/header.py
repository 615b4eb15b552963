"""What an atlas was built from, and the units and kernel axis of each of its layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any, Literal

from msgspec import Meta

from circuit_atlas.storage_schema import documents, layer_paths
from circuit_atlas.storage_schema.bounds import (
    Count,
    Fraction,
    Name,
    NotNegative,
    Positive,
    Seed,
    Sha256,
    Side,
    UnitNumber,
    ascend,
    repeated,
)
from circuit_atlas.storage_schema.directions import DirectionsRecord
from circuit_atlas.storage_schema.document_schema import ValueOf
from circuit_atlas.storage_schema.documents import parse, seal, sha256
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.sample import Sample

Ablation = Literal["zero", "mean"]
MOST_KERNELS = 2**28
"""No layer with a longer kernel axis is read: its positions alone take gigabytes."""


@dataclass(frozen=True, slots=True)
class UnitInfo:
    """Describes one unit of a layer: a channel, or a direction over the layer's channels."""

    number: Annotated[UnitNumber, "0.. over the channels, then over the directions of the spec."]
    name: Annotated[str, "The number as text for a channel, the direction's name otherwise."]
    direction: Annotated[
        tuple[float, ...] | None,
        "The response's weight of each channel; null for a channel, and for a direction of a file.",
    ]
    rows: Annotated[
        tuple[UnitNumber, ...], "The unit's own row of each one-row convolution, in axis order."
    ]


@dataclass(frozen=True)
class LayerIndex:
    """Describes the units of a layer and the kernel axis that they share."""

    layer: Annotated[Name, "The module's path in the model, as in `named_modules()`."]
    channels: Annotated[Side, "Channels of the layer's output."]
    height: Annotated[Side, "Height of the layer's output for one image, in positions."]
    width: Annotated[Side, "Width of the layer's output for one image, in positions."]
    index: Annotated[
        KernelIndex,
        ValueOf("convolutions"),
        "The convolutions on the kernel axis, in order.",
    ]
    units: Annotated[tuple[UnitInfo, ...], "All channels, then the named directions."]
    activation: Annotated[
        Literal["pre", "post"],
        "`post` where a unit's response is what it passes on, `pre` for the module's output.",
    ] = "pre"
    after: Annotated[
        str,
        "The operations after the module's output at whose end the response is taken, and the path "
        "of the last one's module; empty where it is the module's own output.",
    ] = ""
    directions: Annotated[
        DirectionsRecord | None, "What `directions.parquet` holds; null where there is none."
    ] = None
    self_check: Annotated[
        NotNegative | None,
        "The largest difference between the engine and the model itself that was found before any "
        "work, as a share of the largest value; null where that was not looked for.",
    ] = field(default=None, compare=False)
    atlas: Annotated[
        Sha256 | None,
        "The fingerprint of the atlas, see `AtlasHeader.fingerprint`; null in atlases of before it "
        "was stored.",
    ] = field(default=None, compare=False)

    @property
    def explained(self) -> str:
        """Say in words where a unit's response is taken."""
        return f"after {self.after}" if self.after else "the module's own output"

    @cached_property
    def _by_number(self) -> dict[int, UnitInfo]:
        return {unit.number: unit for unit in self.units}

    def unit(self, number: int) -> UnitInfo:
        """Return the unit of that number; QueryError where the layer has none."""
        try:
            return self._by_number[number]
        except KeyError:
            raise QueryError(
                f"layer {self.layer!r} has no unit {number}: it has {len(self.units)}, "
                f"numbered 0 to {len(self.units) - 1}"
            ) from None

    def is_direction(self, unit: UnitInfo) -> bool:
        """Tell whether a unit of the layer is a direction over its channels."""
        return unit.number >= self.channels

    @property
    def direction_names(self) -> tuple[str, ...]:
        """Return the names of the directions, in the order of their units."""
        return tuple(unit.name for unit in self.units if self.is_direction(unit))

    def content(self) -> dict[str, Any]:
        """Return the document's keys, before it is sealed."""
        return {**asdict(self), "index": [asdict(c) for c in self.index.convolutions]}

    def to_json(self) -> str:
        """Return the text of `layer.json`, without the record of the layer's arrays."""
        return seal(self.content())

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str = "layer.json") -> LayerIndex:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="layer index")

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        if self.index.size > MOST_KERNELS:
            return f"has {self.index.size:,} kernels: {MOST_KERNELS:,} at most can be read"
        for convolution in self.index.convolutions:
            if convolution.out_channels % convolution.groups:
                return f"has {convolution}, whose groups differ in size"
        if len(self.units) < self.channels:
            return f"has {len(self.units)} units of {self.channels} channels"
        owned = self.index.owned
        for number, unit in enumerate(self.units):
            if unit.number != number:
                return f"numbers unit {number} as {unit.number}"
            if len(unit.rows) != owned:
                return f"names {len(unit.rows)} own rows of unit {number}, and it has {owned}"
            if unit.direction is not None and (
                number < self.channels or len(unit.direction) != self.channels
            ):
                return f"gives unit {number} a direction over {len(unit.direction)} channels"
        return None

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> LayerIndex:
        """Do the same for what lies at a path; CorruptError where it is another layer's."""
        index = cls.from_json(data, location=objects.at(path))
        own = layer_paths.layer_index(index.layer)
        require_own(objects, path, own, what=f"the index of layer {index.layer!r}")
        return index


@dataclass(frozen=True)
class AtlasHeader:
    """Says what the atlas was built from. The three fingerprints decide whether a build may go on
    with a stored atlas; the rest says it in words."""

    schema: Annotated[Positive, "Schema version, see version.py."]
    model: Annotated[Name, "The model's reference in the spec."]
    weights_sha256: Annotated[Sha256, "SHA-256 over the sorted entries of the model's state."]
    images_sha256: Annotated[Sha256, "SHA-256 over the image set: names, bytes and split."]
    spec_sha256: Annotated[Sha256, "SHA-256 of `spec`."]
    spec: Annotated[str, "The part of the spec that decides the numbers, as canonical JSON."]
    criteria: Annotated[tuple[Name, ...], "Criteria that every unit has."]
    image_criteria: Annotated[tuple[Name, ...], "Those of them with scores for each top image."]
    fractions: Annotated[
        tuple[Fraction, ...],
        Meta(min_length=1, max_length=255),
        "The ladder of kept fractions, largest first.",
    ]
    ablations: Annotated[tuple[Ablation, ...], "What replaces a dropped kernel: zero, mean."]
    response: Annotated[str, "The response explained, as text."]
    top_images: Annotated[Count, "How many top images a unit has, at most."]
    seed: Annotated[Seed, "Seed of everything drawn."]
    versions: Annotated[
        tuple[tuple[Name, Name], ...], "Package and version, of what the first build ran with."
    ]
    input_height: Annotated[Side, "Height of the network's input, in pixels."]
    input_width: Annotated[Side, "Width of the network's input, in pixels."]
    connected: Annotated[
        bool,
        "Whether kernels on dead ends gave way to the next best that act, in stored circuits of "
        "the scoring images.",
    ] = False
    redrawn: Annotated[
        tuple[tuple[Name, Positive], ...],
        "Criteria whose circuits were drawn anew, and in how many draws: of the images, or of "
        "training seeds.",
    ] = ()
    grouped: Annotated[
        tuple[Name, ...],
        "Criteria without scores of single images whose circuits were chosen for each sub-feature "
        "group too.",
    ] = ()
    sample: Annotated[
        Sample | None, "Which images a unit is computed on; null: all that can be used."
    ] = None

    @property
    def fingerprint(self) -> str:
        """Return what tells the atlas from others: SHA-256, in hex, over the three of its spec, its
        weights and its images, with a line break between them."""
        return sha256(
            "\n".join((self.spec_sha256, self.weights_sha256, self.images_sha256)).encode()
        )

    def require_own(self, layer: LayerIndex, *, location: str) -> None:
        """Raise CorruptError where a layer's index is of another atlas; `location` names the
        index."""
        if layer.atlas not in (None, self.fingerprint):
            raise CorruptError(
                f"{location} is of another atlas than the header: restore whichever of the two was "
                "exchanged from a copy"
            )

    def runs(self, criterion: str) -> int:
        """Tell how many score vectors a unit has for `criterion`: a fraction each for `force`, else
        one."""
        return len(self.fractions) if criterion == "force" else 1

    @property
    def group_criteria(self) -> tuple[str, ...]:
        """Name the criteria that units have sub-feature groups by: those with scores of single
        images first."""
        return (*self.image_criteria, *self.grouped)

    @property
    def redrawable(self) -> tuple[str, ...]:
        """Name the criteria whose circuits can be drawn anew, or were: those with scores of single
        images first."""
        return tuple(dict.fromkeys((*self.image_criteria, *(name for name, _ in self.redrawn))))

    def only_stored(self, criterion: str) -> str | None:
        """Say why only the stored circuits of a criterion can be had; None where its scores tell
        those of any fraction."""
        if self.runs(criterion) > 1:
            return f"{criterion!r} ranks the kernels anew for each fraction"
        if self.connected:
            return "the circuits of this atlas were connected when it was built"
        return None

    def to_json(self) -> str:
        """Return the text of `atlas.json`."""
        return seal(asdict(self))

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str = "atlas.json") -> AtlasHeader:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        # No build goes into a location that holds an atlas without its header.
        remedy = "run `circuit-atlas repair ATLAS --spec SPEC`, or restore it from a copy"
        return documents.read(cls, text, location=location, what="atlas header", remedy=remedy)

    @property
    def spec_content(self) -> dict[str, Any]:
        """Return what `spec` says, its tables by their names."""
        content: dict[str, Any] = parse(self.spec)
        return content

    def inconsistency(self) -> str | None:
        """Say what does not go together; None where all does."""
        if sha256(self.spec.encode()) != self.spec_sha256:
            return "has another spec than `spec_sha256` says"
        try:
            content = parse(self.spec)
        except ValueError as error:
            return f"has a spec that is no JSON ({error})"
        if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
            return "has a spec that names no model"
        if not ascend(self.fractions[::-1]):
            return "has `fractions` that do not descend"
        redrawn = [name for name, _ in self.redrawn]
        for names in (self.criteria, self.image_criteria, self.grouped, redrawn, self.ablations):
            if (twice := repeated(names)) is not None:
                return f"names {twice!r} twice"
        named = {*self.image_criteria, *self.grouped, *redrawn}
        if unknown := sorted(named.difference(self.criteria)):
            return f"says of {unknown[0]!r} more than of its criteria {', '.join(self.criteria)}"
        return None
