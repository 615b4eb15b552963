"""The `[[layers]]` tables of a spec: a layer or a pattern of layers, units and directions."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from circuit_atlas.jobs.spec.section import Finite, Listed, Section
from circuit_atlas.storage_schema.directions import SumActivation
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.module_paths import without_wrappers

Activation = Literal["post", "pre"]


class DirectionsFile(Section):
    """`[layers.directions]` with a file: a matrix of directions x channels, as of the encoder of a
    sparse autoencoder.

    Attributes:
        file: `.safetensors`, `.npy` or `.npz`, whose keys are those of `directions_file.MATRICES`;
            a matrix alone is it, whatever its key.
        key: the key of the matrix. Default: found by its name.
        bias: the key of the bias, or `"none"`. Default: the one that belongs to the matrix, where
            there is one.
        subtract: the key of a vector of channels that the sum is taken without, d . (x - c) + b, or
            `"none"`. Default: none; to be said where the file holds a decoder's bias.
        activation: what the sum ends in: `relu` or `none`. Default: "none".
        names: a text file of a line a direction, or a JSON list. Default: `names` of the file, or
            the file's name and a number.
        rows: which directions to build: `"all"`, a list of rows, or a range. All are stored.
            Default: "all".
    """

    file: Annotated[str, Field(min_length=1)]
    key: str | None = None
    bias: str | None = None
    subtract: str | None = None
    activation: SumActivation = "none"
    names: str | None = None
    rows: str | Annotated[tuple[int, ...], Listed] = "all"

    @field_validator("rows", mode="before")
    @classmethod
    def _choice(cls, value: object) -> object:
        return _choice_of(value, "rows")


_Inline = dict[str, Annotated[tuple[Finite, ...], Listed]]


def _kind(value: object) -> str:
    """Whether directions come from a file, or stand in the spec. A tag is no part of a key."""
    in_file = isinstance(value, DirectionsFile) or (
        isinstance(value, dict) and isinstance(value.get("file"), str)
    )
    return "<file>" if in_file else "<inline>"


class LayerSpec(Section):
    """`[[layers]]`: a layer, or a pattern of layers, and the units of each to build.

    Attributes:
        name: the module's path in the model, as in `named_modules()`; or a pattern of such paths,
            in which `*` is any text, dots included, `?` any character, and `[ab]` one of those.
        units: `"all"`, a list of channels, or a range such as `"0:64:2"`. Default: "all".
        directions: named directions, each a number a channel, or a file of them; each is one more
            unit, numbered after the channels in the order given here. Default: none.
        activation: what a unit's response is taken from: `post`, what it passes on, which is the
            module's output after the batch norm, ReLU and whatever else treats each channel and
            position for itself, as far as everything that reads the output shares it; or `pre`,
            the module's own output. Default: "post".
        labels: a text file of a line a channel, or JSON: a list, or an object from a unit's number
            to its text. Default: none; what an earlier build stored stays.
    """

    name: Annotated[str, Field(min_length=1)]
    units: str | Annotated[tuple[int, ...], Listed] = "all"
    activation: Activation = "post"
    directions: Annotated[
        Annotated[DirectionsFile, Tag("<file>")] | Annotated[_Inline, Tag("<inline>")],
        Discriminator(_kind),
    ] = Field(default_factory=dict)

    labels: str | None = None

    @field_validator("units", mode="before")
    @classmethod
    def _choice(cls, value: object) -> object:
        return _choice_of(value, "channels")

    @model_validator(mode="after")
    def _some_unit(self) -> Self:
        if not self.units and not self.directions:
            raise ValueError(f'names no unit of {self.name}: set units = "all"')
        if self.directions and self.is_pattern:
            raise ValueError(
                f"gives directions to the layers of the pattern {self.name!r}: they are over the "
                "channels of one layer, which needs a [[layers]] table of its own"
            )
        if isinstance(self.directions, dict):
            for name, vector in self.directions.items():
                if not any(vector):
                    raise ValueError(f"direction {name!r} has no number other than 0")
        return self

    @property
    def is_pattern(self) -> bool:
        """Whether the name is a pattern of names."""
        return any(sign in self.name for sign in "*?[")

    def matches(self, layer: str) -> bool:
        """Says whether the table is of that layer, by its name or by a pattern."""
        if not self.is_pattern:
            return layer == self.name
        return any(fnmatchcase(name, self.name) for name in (layer, without_wrappers(layer)))

    def with_name(self, layer: str) -> Self:
        """Gives the same table with the name of one of its layers."""
        return self.model_copy(update={"name": layer})

    def with_paths(self, absolute: Callable[[str], str]) -> Self:
        """Gives the same layer with the paths of its files changed."""
        changed: dict[str, object] = {}
        if self.labels is not None:
            changed["labels"] = absolute(self.labels)
        directions = self.directions
        if isinstance(directions, DirectionsFile):
            paths = {"file": directions.file, "names": directions.names}
            files = {key: absolute(path) for key, path in paths.items() if path is not None}
            changed["directions"] = directions.model_copy(update=files)
        return self.model_copy(update=changed)

    def resolve(self, channels: int, directions: int) -> tuple[int, ...]:
        """Lists the units to build in a layer with so many channels and directions, ascending,
        directions last.

        Raises ModelError for a unit that the layer doesn't have.
        """
        rows = self.directions.rows if isinstance(self.directions, DirectionsFile) else "all"
        return (
            *self._chosen(self.units, channels, "channel"),
            *(channels + row for row in self._chosen(rows, directions, "direction")),
        )

    def _chosen(
        self, choice: str | tuple[int, ...], count: int, kind: Literal["channel", "direction"]
    ) -> Sequence[int]:
        what = "unit" if kind == "channel" else "row"
        if choice == "all":
            return range(count)
        if isinstance(choice, tuple):
            chosen: Sequence[int] = choice
        else:
            start, stop, step = _range(choice) or (0, None, 1)
            chosen = range(start, count if stop is None else stop, step)
            if not chosen:
                raise ModelError(
                    f"{what}s {choice!r} of layer {self.name!r} hold no {kind}: "
                    f"its {count} {kind}s go from 0 to {count - 1}"
                )
        outside = next((number for number in chosen if number >= count), None)
        if outside is not None:
            raise ModelError(
                f"{what} {outside} of layer {self.name!r} is out of range: it has {count} "
                f"{kind}s, so {what}s go from 0 to {count - 1}"
            )
        return chosen


def _choice_of(value: object, what: str) -> object:
    if isinstance(value, list | tuple) and all(type(n) is int and n >= 0 for n in value):
        return tuple(sorted(set(value)))
    if value == "all" or (isinstance(value, str) and _range(value) is not None):
        return value
    raise ValueError(f'should be "all", a list of {what} from 0, or a range like "0:64:2"')


def _range(text: str) -> tuple[int, int | None, int] | None:
    """`start:stop:step` with whole numbers from 0, or None where the text is something else."""
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*(?::\s*(\d*)\s*)?", text)
    if match is None or match[3] == "0":
        return None
    start, stop, step = match.groups()
    return int(start or 0), int(stop) if stop else None, int(step or 1)
