"""The spec of a build: a TOML file, read once into frozen objects, every value checked.

Unknown keys are refused with the nearest valid one. The science of a build (`BuildSpec.science`)
is what decides an atlas' numbers. Which layers and units are built, which feature visualizations
are made, where files lie and how the work is spread may change from run to run of one atlas.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError, ValidationInfo, field_validator

from circuit_atlas.jobs.spec.circuits import Ablation, CircuitsSpec
from circuit_atlas.jobs.spec.images import DEMO, ImagesSpec
from circuit_atlas.jobs.spec.layers import LayerSpec
from circuit_atlas.jobs.spec.learned import LearnedSpec
from circuit_atlas.jobs.spec.messages import describe
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.jobs.spec.run import RunSpec
from circuit_atlas.jobs.spec.section import Listed, Section
from circuit_atlas.jobs.spec.toml import to_toml
from circuit_atlas.jobs.spec.visualization import FeaturesSpec
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.wording import one_line

# Keys of `[circuits]` and of `[learned]` that the first atlases did not have.
_LATER = ("connected", "force_score", "held_out", "integrated_steps", "scoring", "stability")
_LATER_TRAINING = ("seeds", "groups")


class BuildSpec(Section):
    """The whole of a build, as read from TOML. `layers = "all"` is the pattern `*`."""

    model: ModelSpec
    images: ImagesSpec
    preprocessing: PreprocessingSpec | None = None
    layers: Annotated[tuple[LayerSpec, ...], Listed, Field(min_length=1)]
    circuits: CircuitsSpec = Field(default_factory=CircuitsSpec)
    learned: LearnedSpec = Field(default_factory=LearnedSpec)
    features: FeaturesSpec = Field(default_factory=FeaturesSpec)
    run: RunSpec = Field(default_factory=RunSpec)

    @field_validator("preprocessing")
    @classmethod
    def _one_size(
        cls, value: PreprocessingSpec | None, info: ValidationInfo
    ) -> PreprocessingSpec | None:
        """Images of a folder differ in size; the images of an array do not."""
        images = info.data.get("images")
        if value is None or value.fixes_size or (images is not None and images.is_array):
            return value
        raise ValueError(
            "must give every image the same size: set resize = [height, width], or crop"
        )

    @field_validator("layers", mode="before")
    @classmethod
    def _all_layers(cls, value: object) -> object:
        if isinstance(value, str) and value != "all":
            raise ValueError('should be "all", or tables: write [[layers]]')
        return ({"name": "*"},) if value == "all" else value

    @field_validator("layers")
    @classmethod
    def _distinct(cls, value: tuple[LayerSpec, ...]) -> tuple[LayerSpec, ...]:
        names = [layer.name for layer in value]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"name {name!r} twice: give each layer one [[layers]] table")
        return value

    @classmethod
    def load(cls, path: str | Path) -> BuildSpec:
        """Reads a TOML file; relative paths in it start at the file's folder.

        Raises SpecError, in one line, for a file that can't be read or isn't a valid spec.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError:
            raise SpecError(f"no spec at {str(file)!r}: give the path of a TOML file") from None
        except (OSError, UnicodeDecodeError) as error:
            raise SpecError(f"the spec {str(file)!r} cannot be read: {one_line(error)}") from error
        try:
            return cls.from_toml(text, folder=file.resolve().parent)
        except SpecError as error:
            raise SpecError(f"{file.name}: {error}") from error.__cause__

    @classmethod
    def from_toml(cls, text: str, *, folder: str | Path | None = None) -> BuildSpec:
        """Reads a spec's text; relative paths in it start at `folder`. Default: stay relative."""
        try:
            values = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SpecError(f"not valid TOML: {one_line(error)}") from error
        return cls.from_values(values, folder=folder)

    @classmethod
    def from_values(cls, values: dict[str, Any], *, folder: str | Path | None = None) -> BuildSpec:
        """Checks a spec of nested dictionaries, as TOML reads it; `folder` as in `from_toml`."""
        try:
            spec = cls.model_validate(values)
        except ValidationError as error:
            raise SpecError(describe(error, cls)) from error
        return spec if folder is None else spec._with_absolute_paths(Path(folder))

    def layer(self, name: str) -> LayerSpec | None:
        """Gives the table of a layer: the one that names it, else the last whose pattern matches;
        None where none does."""
        named = next((table for table in self.layers if table.name == name), None)
        matching = [table.with_name(name) for table in self.layers if table.matches(name)]
        return named or (matching[-1] if matching else None)

    def resolved(self, preprocessing: PreprocessingSpec) -> BuildSpec:
        """Writes out the preprocessing that the model's weights brought; returns the new spec."""
        return self.model_copy(update={"preprocessing": preprocessing})

    def science(self) -> dict[str, Any]:
        """Picks all that decides the atlas' numbers, as JSON has it.

        Where files lie is left out: weights and images have fingerprints. A model without arguments
        has none there, what is not trained no training, and what came later to a table and has its
        default is not there, as in atlases from before there was any.
        """
        values = self.model_dump(mode="json")
        _drop_defaults(values["circuits"], self.circuits, _LATER)
        model = {key: values["model"][key] for key in ("reference", "arguments")}
        trained = "learned" in self.circuits.criteria
        return {
            "model": model if self.model.arguments else {"reference": model["reference"]},
            "preprocessing": values["preprocessing"],
            "images": {"held_out": values["images"]["held_out"], "limit": self.images.limit},
            "circuits": values["circuits"],
            **({"learned": self._training()} if trained else {}),
        }

    def without_code(self) -> BuildSpec:
        """Leaves out where the model's code lies, for where it is importable."""
        return self.model_copy(update={"model": self.model.model_copy(update={"code": None})})

    @property
    def learned_ablation(self) -> Ablation:
        """What a pruned kernel is while rankings are trained."""
        return self.learned.ablation or self.circuits.ablation[0]

    def _training(self) -> dict[str, Any]:
        values = self.learned.model_dump(mode="json")
        _drop_defaults(values, self.learned, _LATER_TRAINING)
        return {**values, "ablation": self.learned_ablation}

    def canonical(self) -> str:
        """Writes `science` as the one JSON text that `sha256` is taken of."""
        return json.dumps(self.science(), sort_keys=True, separators=(",", ":"))

    def sha256(self) -> str:
        """Computes the fingerprint of `science`, in hexadecimal."""
        return hashlib.sha256(self.canonical().encode()).hexdigest()

    def to_toml(self) -> str:
        """Writes the spec as TOML; `from_toml` gives the same spec back."""
        return to_toml(self.model_dump(mode="json", exclude_none=True))

    def _with_absolute_paths(self, folder: Path) -> BuildSpec:
        """Relative paths made absolute; names that aren't paths stay as they are."""

        def absolute(path: str) -> str:
            return path if "://" in path else str(folder / Path(path).expanduser())

        model, images, run = self.model, self.images, self.run
        for key in ("weights", "code"):
            if (path := getattr(model, key)) is not None:
                model = model.model_copy(update={key: absolute(path)})
        if not images.source.startswith(DEMO):
            files = {"source": absolute(images.source)}
            for key in ("ids", "labels") if images.is_array else ():
                named = getattr(images, key)
                # Without a suffix it names an array in the Zarr group.
                if named is not None and Path(named).suffix:
                    files[key] = absolute(named)
            images = images.model_copy(update=files)
        run = run.model_copy(update={"store": absolute(run.store)})
        layers = tuple(layer.with_paths(absolute) for layer in self.layers)
        return self.model_copy(
            update={"model": model, "images": images, "layers": layers, "run": run}
        )


def _drop_defaults(values: dict[str, Any], section: Section, keys: Sequence[str]) -> None:
    """Takes those of the keys out of a section's values that have their default."""
    for key in keys:
        if getattr(section, key) == type(section).model_fields[key].default:
            del values[key]
