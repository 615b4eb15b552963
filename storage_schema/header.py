"""What an atlas was built from, and the units and kernel axis of each of its layers."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Annotated, Any

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.directions import DirectionsRecord
from circuit_atlas.storage_schema.documents import seal, unseal
from circuit_atlas.storage_schema.errors import CorruptError, QueryError
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.own_path import require_own
from circuit_atlas.storage_schema.sample import Sample


@dataclass(frozen=True, slots=True)
class UnitInfo:
    """Describes one unit of a layer: a channel, or a direction over the layer's channels."""

    number: Annotated[int, "0.. over the channels, then over the directions of the spec."]
    name: Annotated[str, "The number as text for a channel, the direction's name otherwise."]
    direction: Annotated[
        tuple[float, ...] | None,
        "The response's weight of each channel; null for a channel, and for a direction of a file.",
    ]
    rows: Annotated[
        tuple[int, ...], "The unit's own row of each one-row convolution, in axis order."
    ]


@dataclass(frozen=True)
class LayerIndex:
    """Describes the units of a layer and the kernel axis that they share."""

    layer: Annotated[str, "The module's path in the model, as in `named_modules()`."]
    channels: Annotated[int, "Channels of the layer's output."]
    height: Annotated[int, "Height of the layer's output for one image, in positions."]
    width: Annotated[int, "Width of the layer's output for one image, in positions."]
    index: Annotated[KernelIndex, "The convolutions on the kernel axis, in order."]
    units: Annotated[tuple[UnitInfo, ...], "All channels, then the named directions."]
    activation: Annotated[
        str, "`post` where a unit's response is what it passes on, `pre` for the module's output."
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
        float | None,
        "The largest difference between the engine and the model itself that was found before any "
        "work, as a share of the largest value; null where that was not looked for.",
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
        content = unseal(text, location=location)
        try:
            convolutions = tuple(
                Convolution(**{**c, "kernel_size": tuple(c["kernel_size"])})
                for c in content["index"]
            )
            units = tuple(
                UnitInfo(
                    number=unit["number"],
                    name=unit["name"],
                    direction=None if unit["direction"] is None else tuple(unit["direction"]),
                    rows=tuple(unit["rows"]),
                )
                for unit in content["units"]
            )
            return cls(
                layer=content["layer"],
                channels=content["channels"],
                height=content["height"],
                width=content["width"],
                index=KernelIndex(convolutions),
                units=units,
                activation=content.get("activation", "pre"),  # all that schema 2 knows
                after=content.get("after", ""),
                directions=DirectionsRecord.of(content.get("directions")),
                self_check=content.get("self_check"),
            )
        except (KeyError, TypeError) as error:
            raise CorruptError(f"{location} is no layer index: {error!r}") from error

    @classmethod
    def stored_at(cls, objects: Objects, path: str, data: bytes) -> LayerIndex:
        """Do the same for what lies at a path; CorruptError where it is another layer's."""
        index = cls.from_json(data, location=objects.at(path))
        own = layout.layer_index(index.layer)
        require_own(objects, path, own, what=f"the index of layer {index.layer!r}")
        return index


@dataclass(frozen=True)
class AtlasHeader:
    """Says what the atlas was built from. The three fingerprints decide whether a build may go on
    with a stored atlas; the rest says it in words."""

    schema: Annotated[int, "Schema version, see version.py."]
    model: Annotated[str, "The model's reference in the spec."]
    weights_sha256: Annotated[str, "SHA-256 over the sorted entries of the model's state."]
    images_sha256: Annotated[str, "SHA-256 over the image set: names, bytes and split."]
    spec_sha256: Annotated[str, "SHA-256 of `spec`."]
    spec: Annotated[str, "The part of the spec that decides the numbers, as canonical JSON."]
    criteria: Annotated[tuple[str, ...], "Criteria that every unit has."]
    image_criteria: Annotated[tuple[str, ...], "Those of them with scores for each top image."]
    fractions: Annotated[tuple[float, ...], "The ladder of kept fractions, largest first."]
    ablations: Annotated[tuple[str, ...], "What replaces a dropped kernel: zero, mean."]
    response: Annotated[str, "The response explained, as text."]
    top_images: Annotated[int, "How many top images a unit has, at most."]
    seed: Annotated[int, "Seed of everything drawn."]
    versions: Annotated[
        tuple[tuple[str, str], ...], "Package and version, of what the first build ran with."
    ]
    input_height: Annotated[int, "Height of the network's input, in pixels."]
    input_width: Annotated[int, "Width of the network's input, in pixels."]
    connected: Annotated[
        bool,
        "Whether kernels on dead ends gave way to the next best that act, in stored circuits of "
        "the scoring images.",
    ] = False
    redrawn: Annotated[
        tuple[tuple[str, int], ...],
        "Criteria whose circuits were drawn anew, and in how many draws: of the images, or of "
        "training seeds.",
    ] = ()
    grouped: Annotated[
        tuple[str, ...],
        "Criteria without scores of single images whose circuits were chosen for each sub-feature "
        "group too.",
    ] = ()
    sample: Annotated[
        Sample | None, "Which images a unit is computed on; null: all that can be used."
    ] = None

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
        content = unseal(text, location=location, remedy=remedy)
        try:
            return cls(
                schema=content["schema"],
                model=content["model"],
                weights_sha256=content["weights_sha256"],
                images_sha256=content["images_sha256"],
                spec_sha256=content["spec_sha256"],
                spec=content["spec"],
                criteria=tuple(content["criteria"]),
                image_criteria=tuple(content["image_criteria"]),
                fractions=tuple(content["fractions"]),
                ablations=tuple(content["ablations"]),
                response=content["response"],
                top_images=content["top_images"],
                seed=content["seed"],
                versions=tuple((name, number) for name, number in content["versions"]),
                input_height=content["input_height"],
                input_width=content["input_width"],
                connected=content.get("connected", False),
                redrawn=tuple((name, draws) for name, draws in content.get("redrawn", ())),
                grouped=tuple(content.get("grouped", ())),
                sample=Sample.of(content.get("sample")),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptError(f"{location} is no atlas header: {error!r}") from error
