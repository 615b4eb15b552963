"""The tables of a build spec: frozen objects, every value checked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from circuit_atlas.storage_schema.directions import SumActivation
from circuit_atlas.storage_schema.errors import ModelError, SpecError

Criterion = Literal[
    "actgrad",
    "actgrad_centred",
    "integrated",
    "snip",
    "force",
    "learned",
    "magnitude",
    "random",
]
Iterated = Literal["snip", "actgrad", "actgrad_centred"]
Ablation = Literal["zero", "mean"]
Interpolation = Literal["bilinear", "bicubic", "nearest"]
Activation = Literal["post", "pre"]

FRACTIONS = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.002, 0.001)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEMO = "demo:"

# TOML has lists only, and strict checking would refuse a list where a tuple is wanted.
Listed = Field(strict=False)
_Positive = Annotated[int, Field(ge=1)]
_Pair = Annotated[tuple[_Positive, _Positive], Listed]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_PerChannel = Annotated[tuple[_Finite, ...], Listed, Field(min_length=1)]


class Section(BaseModel):
    """A table of the spec: frozen, without unknown keys, and no value turned into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ModelSpec(Section):
    """`[model]`: the network and its weights.

    Attributes:
        reference: `torchvision:NAME`, `timm:NAME`, `demo:NAME` or `package.module:function`; the
            function returns a `torch.nn.Module`.
        weights: a `.safetensors` file, or one that `torch.load(weights_only=True)` reads. Default:
            none.
        pretrained: take torchvision's or timm's own weights where no file is given. Default: true.
        arguments: keyword arguments of the function, or of torchvision's or timm's builder: texts,
            numbers, booleans, and lists and tables of them. Default: none.
    """

    reference: Annotated[str, Field(min_length=1)]
    weights: str | None = None
    pretrained: bool = True
    arguments: dict[str, Any] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _plain_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, item in value.items():
            if not _is_plain(item):
                raise ValueError(
                    f"has {name} = {item!r}: should be a text, a finite number, true or false, or "
                    "a list or table of such"
                )
        return value


class PreprocessingSpec(Section):
    """`[preprocessing]`: how an image becomes the network's input.

    The numbers of `mean` and `std` are as many as the network's input channels: with one, images
    become grey, with three they have colours, with four an opacity beside them, with two an opacity
    beside grey; those of an array are as they are. What channels hold lies in 0..1: that is 8 or 16
    bits divided by the largest value that they can hold. Arrays of any other type are taken as they
    are.

    Attributes:
        resize: height and width in pixels, or the shorter side alone, keeping the proportions.
            Default: no resizing.
        crop: the centre's height and width in pixels, after resizing. Default: no cropping.
        mean: subtracted from each channel. Default: ImageNet's where there are three channels, and
            0 where there are others.
        std: what each channel is divided by after that. Default: ImageNet's where there are three
            channels, and 1 where there are others.
        interpolation: how resizing reads between pixels, always antialiased. Default: "bilinear".
    """

    resize: _Positive | _Pair | None = None
    crop: _Positive | _Pair | None = None
    mean: _PerChannel = IMAGENET_MEAN
    std: _PerChannel = IMAGENET_STD
    interpolation: Interpolation = "bilinear"

    @field_validator("resize", "crop", mode="before")
    @classmethod
    def _extent(cls, value: object) -> object:
        numbers = value if isinstance(value, list | tuple) else [value]
        if value is None or (
            len(numbers) == (2 if numbers is value else 1)
            and all(type(n) is int and n >= 1 for n in numbers)
        ):
            return value
        raise ValueError("should be a number of pixels or [height, width], at least 1")

    @field_validator("std")
    @classmethod
    def _divisible(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) <= 0:
            raise ValueError("should be numbers above 0, one a channel")
        return value

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        if len(self.mean) != len(self.std):
            raise ValueError(
                f"mean and std have {len(self.mean)} and {len(self.std)} numbers: give both, one a "
                "channel"
            )
        return self

    @model_validator(mode="after")
    def _crop_within(self) -> Self:
        if self.crop is not None and self.resize is not None:
            crop = self.crop if isinstance(self.crop, tuple) else (self.crop, self.crop)
            # Where one number is given, the longer side is not known.
            sides = (
                zip(crop, self.resize, strict=True)
                if isinstance(self.resize, tuple)
                else [(min(crop), self.resize)]
            )
            if any(cropped > resized for cropped, resized in sides):
                raise ValueError(
                    f"crop = {_plain(self.crop)} is larger than resize = {_plain(self.resize)}, "
                    "and would be filled up with black: give a smaller crop or a larger resize"
                )
        return self

    @property
    def is_imagenets(self) -> bool:
        """Whether mean and std are ImageNet's, given or by default."""
        return (self.mean, self.std) == (IMAGENET_MEAN, IMAGENET_STD)

    @property
    def fixes_size(self) -> bool:
        """Whether images of any size come out of one size."""
        return self.crop is not None or isinstance(self.resize, tuple)

    def for_channels(self, channels: int) -> PreprocessingSpec:
        """Gives the same for images of so many channels, where the default is another for them.

        Raises SpecError where mean and std are given for another number of channels.
        """
        if len(self.mean) == channels:
            return self
        if not self.is_imagenets:
            raise SpecError(
                f"preprocessing.mean has {len(self.mean)} numbers and the images have {channels} "
                "channels: give mean and std, a number a channel"
            )
        return self.model_copy(update={"mean": (0.0,) * channels, "std": (1.0,) * channels})

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the network's input, in pixels; SpecError where they are not
        fixed."""
        extent = self.resize if self.crop is None else self.crop
        if isinstance(extent, tuple):
            return extent
        if extent is None or self.crop is None:
            raise SpecError("preprocessing: set resize = [height, width], or crop")
        return extent, extent


class ImagesSpec(Section):
    """`[images]`: the images, and which of them are held out for testing.

    Attributes:
        source: a folder of images or of `.parquet` files, a `.parquet` file, several as
            `data/train-*.parquet`, an array (images x channels x height x width) in a `.npy` file
            or a `.zarr` folder, or `demo:photos`.
        column: the Parquet column with the images' bytes, or the array in a Zarr group. Default:
            found by its name.
        ids: the Parquet column with the images' names; of an array, a file with as many, or an
            array in the Zarr group. Default: found by its name; the rows' numbers where there is
            none.
        labels: the Parquet column with the images' classes; of an array, as for `ids`. Default:
            found by its name, or by the metadata that Hugging Face's `datasets` writes.
        label_level: which folder on the way to an image names its class: 1 for the first below the
            source, 2 for the next, ..., -1 for the one that the file lies in, -2 for the one above;
            0 for none. Default: -1.
        held_out: a fraction (drawn by the seed), the names of the held-out images, or `odd`:
            every second image, sorted by name. Default: 0.2.
        limit: use only so many images, spread evenly over the classes, each class' first by name.
            Default: all.
    """

    source: Annotated[str, Field(min_length=1)]
    column: str | None = None
    ids: str | None = None
    labels: str | None = None
    label_level: int = -1
    held_out: float | Annotated[tuple[str, ...], Listed] | Literal["odd"] = 0.2
    limit: _Positive | None = None

    @field_validator("held_out", mode="before")
    @classmethod
    def _rule(cls, value: object) -> object:
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            return tuple(sorted(set(value)))
        if type(value) in (int, float) and 0 <= float(str(value)) < 1:
            return float(str(value))
        if value == "odd":
            return value
        raise ValueError('should be a fraction in [0, 1), a list of image names, or "odd"')

    @property
    def is_array(self) -> bool:
        """Whether the source is an array, in a `.npy` file or a `.zarr` folder."""
        path = Path(self.source)
        return path.suffix == ".npy" or any(part.endswith(".zarr") for part in path.parts)


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


_Inline = dict[str, Annotated[tuple[_Finite, ...], Listed]]


def _kind(value: object) -> str:
    """Whether directions come from a file, or stand in the spec. A tag is no part of a key."""
    in_file = isinstance(value, DirectionsFile) or (
        isinstance(value, dict) and isinstance(value.get("file"), str)
    )
    return "<file>" if in_file else "<inline>"


class LayerSpec(Section):
    """`[[layers]]`: a layer and the units of it to build.

    Attributes:
        name: the module's path in the model, as in `named_modules()`.
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
        if isinstance(self.directions, dict):
            for name, vector in self.directions.items():
                if not any(vector):
                    raise ValueError(f"direction {name!r} has no number other than 0")
        return self

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


class CircuitsSpec(Section):
    """`[circuits]`: what is explained, how kernels are scored and how many are kept.

    Attributes:
        response: the number that explains a unit's output y: `sum_abs`, `max`, or `[y, x]`, the
            value at one position. Default: "sum_abs".
        criteria: the scores to compute. Default: "actgrad" alone.
        fractions: the fractions of the kernels to keep, each in (0, 1], sorted in descending order.
            Default: `FRACTIONS`.
        connected: let kernels on dead ends give way to the next best on a path from the image to
            the unit, see `jobs.circuits.connected`. Default: false.
        ablation: what a dropped kernel becomes: `zero`, or its `mean` over the scoring images.
            Default: "zero" alone.
        top_images: how many images a unit gets scores for single images on. Default: 10.
        stability: store how often each kernel is in the circuits when those images are drawn anew,
            see `storage_schema.stability`, for each criterion that scores single images. Default:
            false.
        force_steps: steps of the iterative score. Default: 10.
        force_score: the score that it iterates. Default: "snip", as published.
        integrated_steps: images on the way from one of a single colour to the whole one whose
            gradients `integrated` averages. Default: 5.
        precision: of multiplications on a GPU: `float32`, or `tf32`, which keeps 10 bits of what is
            multiplied. Other devices always compute in float32. Default: "float32".
        seed: decides whatever is drawn. Default: 0.
    """

    response: Literal["sum_abs", "max"] | Annotated[tuple[int, int], Listed] = "sum_abs"
    criteria: Annotated[tuple[Criterion, ...], Listed, Field(min_length=1)] = ("actgrad",)
    fractions: Annotated[tuple[float, ...], Listed, Field(min_length=1)] = FRACTIONS
    connected: bool = False
    ablation: Annotated[tuple[Ablation, ...], Listed, Field(min_length=1)] = ("zero",)
    top_images: _Positive = 10
    stability: bool = False
    force_steps: _Positive = 10
    force_score: Iterated = "snip"
    integrated_steps: _Positive = 5
    precision: Literal["float32", "tf32"] = "float32"
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @field_validator("response", mode="before")
    @classmethod
    def _what(cls, value: object) -> object:
        if value in ("sum_abs", "max"):
            return value
        numbers = value if isinstance(value, list | tuple) else ()
        if len(numbers) == 2 and all(type(n) is int and n >= 0 for n in numbers):
            return tuple(numbers)
        raise ValueError('should be "sum_abs", "max", or a position [y, x] from [0, 0]')

    @field_validator("fractions")
    @classmethod
    def _kept_fractions(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        for fraction in value:
            if not (math.isfinite(fraction) and 0 < fraction <= 1):
                raise ValueError(f"{fraction} is outside (0, 1]: a fraction of kernels to keep")
        return tuple(sorted(set(value), reverse=True))

    @field_validator("criteria", "ablation")
    @classmethod
    def _once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(value))


class RunSpec(Section):
    """`[run]`: where the atlas goes and how the work is spread; never changes a number.

    Attributes:
        store: a folder, or a URL such as `s3://bucket/atlas`. Default: "atlas".
        device: `auto`, `cpu`, `cuda`, `cuda:N` or `mps`. Default: "auto".
        workers: processes. Default: 0, one a core.
        threads: threads of each worker. Default: 1.
        batch_size: images a forward pass, at most. Default: 16.
        memory_bytes: budget of each worker, see `memory`. Default: 0, its share of half of what is
            free.
        units_per_task: units of one task. Default: 0, the planner's choice.
        deadline_s: seconds after which a task is given up. Default: 3600.
        retries: further tries of a task whose worker was lost. Default: 2.
        self_check: hold each layer against the model itself, on one image and two units, before any
            work. Default: true.
        image_sums: store of each circuit and image the sums that r over any choice of images is
            made of, see `storage_schema.unit_tables.IMAGE_SUMS`. Default: false.
    """

    store: Annotated[str, Field(min_length=1)] = "atlas"
    device: str = "auto"
    workers: Annotated[int, Field(ge=0)] = 0
    threads: _Positive = 1
    batch_size: _Positive = 16
    memory_bytes: Annotated[int, Field(ge=0)] = 0
    units_per_task: Annotated[int, Field(ge=0)] = 0
    deadline_s: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3600.0
    retries: Annotated[int, Field(ge=0)] = 2
    self_check: bool = True
    image_sums: bool = False

    @field_validator("device")
    @classmethod
    def _known_device(cls, value: str) -> str:
        if re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", value):
            return value
        raise ValueError('should be "auto", "cpu", "cuda", "cuda:N" or "mps"')


def _choice_of(value: object, what: str) -> object:
    if isinstance(value, list | tuple) and all(type(n) is int and n >= 0 for n in value):
        return tuple(sorted(set(value)))
    if value == "all" or (isinstance(value, str) and _range(value) is not None):
        return value
    raise ValueError(f'should be "all", a list of {what} from 0, or a range like "0:64:2"')


def _is_plain(value: object) -> bool:
    """Whether a value is written alike in TOML and in JSON."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))


def _plain(extent: int | tuple[int, int]) -> int | list[int]:
    """As in the file."""
    return list(extent) if isinstance(extent, tuple) else extent


def _range(text: str) -> tuple[int, int | None, int] | None:
    """`start:stop:step` with whole numbers from 0, or None where the text is something else."""
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*(?::\s*(\d*)\s*)?", text)
    if match is None or match[3] == "0":
        return None
    start, stop, step = match.groups()
    return int(start or 0), int(stop) if stop else None, int(step or 1)
