"""The plan of a build: from a spec and what is committed already to ordered tasks."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.jobs.circuits.connected import require_path
from circuit_atlas.jobs.engine.targets import check_position, response_text
from circuit_atlas.jobs.images.prepared_images import Prepare, prepare_here
from circuit_atlas.jobs.scores.crops import check_crop
from circuit_atlas.jobs.scores.per_image import PER_IMAGE
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.labels_file import read_labels
from circuit_atlas.jobs.tasks.layer_patterns import settle_layers
from circuit_atlas.jobs.tasks.memory import require
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.remarks import remarks
from circuit_atlas.jobs.tasks.sample import decided
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.grouping import FEWEST_IMAGES as FEWEST_IMAGES_OF_GROUPS
from circuit_atlas.storage_schema.grouping import MOST_GROUPS
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.keys import Numbered, UnitKey
from circuit_atlas.storage_schema.network import TOP_CROPS
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.sample import images_of_unit
from circuit_atlas.storage_schema.stability import DRAWS, FEWEST_IMAGES
from circuit_atlas.storage_schema.template import Plan
from circuit_atlas.storage_schema.version import SCHEMA_VERSION

# So many units share a forward pass as a rule: more would make progress coarse and a lost task
# dear, fewer would repeat the forward pass.
_UNITS_PER_TASK = 16
_TASKS_PER_WORKER = 2
# A unit's tables take about 100 bytes a row; a commit record and file headers some kilobytes.
_ROW_BYTES = 100
_UNIT_BYTES = 16_000
# Where units have images of their own: a response and a position of each image and unit.
_RESPONSE_BYTES = 8


@dataclass(frozen=True)
class Task:
    """Units of one layer that a worker computes together.

    Attributes:
        layer: the layer.
        units: the units.
        of: "channel" where these are channels of a convolution, which get feature visualizations,
            and `layer` is that convolution; "chunk" where they are chunks of images, and `layer` is
            what is done with them. Default: "unit".
    """

    layer: str
    units: tuple[UnitKey, ...]
    of: Numbered = "unit"


@dataclass(frozen=True)
class Build:
    """A resolved spec: all that the store is laid out from, and remarks to show.

    `spec` has the preprocessing written out, a table for each layer in place of patterns, and the
    directions that the atlas has. Of layers by name, `directions` are those that came from a file,
    and `unit_labels` what units stand for, by number. `passed_over` counts the files of each suffix
    that lie beside the images and are taken for none; `channels` are those of an image. `trace` is
    the model's, for workers, where it was kept. `store_pixels` writes the images' values into a
    store that lacks them, and says where they lie.
    """

    header: AtlasHeader
    layers: tuple[LayerIndex, ...]
    plan: Plan
    spec: BuildSpec
    images: pa.Table
    remarks: tuple[str, ...]
    directions: Mapping[str, Directions]
    unit_labels: Mapping[str, Mapping[int, str]]
    passed_over: Mapping[str, int]
    channels: int
    trace: bytes | None
    store_pixels: Callable[[Objects], PixelsRecord]

    @property
    def left_out(self) -> int:
        """How many images cannot be read."""
        return int(pc.sum(pc.equal(self.images["split"], "left_out")).as_py() or 0)


@dataclass(frozen=True)
class LayerEstimate:
    """Work on one layer: where the response is taken, its units, the kernels of its axis, tasks,
    bytes before compression, and what the self-check found, None where it was left out."""

    layer: str
    explained: str
    units: int
    kernels: int
    tasks: int
    size_bytes: int
    self_check: float | None


@dataclass(frozen=True)
class Estimate:
    """Work that a build has to do, how many missing units it leaves to later ones, and what `Build`
    says of the images and remarks."""

    layers: tuple[LayerEstimate, ...]
    left: int
    images: int
    left_out: int
    passed_over: Mapping[str, int]
    size_bytes: int
    remarks: tuple[str, ...]


def resolve(spec: BuildSpec, *, self_check: bool = False, prepare: Prepare = prepare_here) -> Build:
    """Loads the model, traces each layer, prepares the images, and fixes the numbers of every unit.

    Args:
        spec: what to build.
        prepare: prepares the images. Default: does so in this process.
        self_check: whether to hold each layer against the model itself too. Default: not.

    Raises:
        InputError: the spec, the model, a layer, a unit or the images cannot be used; ModelError
            where a layer fails the self-check.
        StoreError: there is an atlas that cannot be read.
    """
    opened = OpenedSpec(spec, prepare=prepare, keep_trace=True)
    left_out = settle_layers(opened)
    build = resolve_opened(opened, self_check=self_check)
    return replace(build, remarks=(*remarks(opened), *left_out, *build.remarks))


def resolve_opened(opened: OpenedSpec, *, self_check: bool = False, whole: bool = False) -> Build:
    """Does what `resolve` does, with no remarks but the self-check's, for a spec that is open
    already; `whole` gives units all images, whatever the spec says."""
    spec = opened.spec
    layers, planned = [], []
    directions: dict[str, Directions] = {}
    unit_labels: dict[str, Mapping[int, str]] = {}
    for layer_spec in spec.layers:
        layer = opened.layer(layer_spec.name)
        if not isinstance(spec.circuits.response, str):
            check_position(spec.circuits.response, (layer.index.height, layer.index.width))
        layers.append(layer.index)
        if layer.index.directions is not None:
            directions[layer_spec.name] = layer.directions
        if layer_spec.labels is not None:
            unit_labels[layer_spec.name] = read_labels(Path(layer_spec.labels), layer.index)
        units = layer_spec.resolve(layer.index.channels, len(layer.directions))
        planned.append((layer_spec.name, units))
    header = atlas_header(opened, whole=whole)
    circuits = spec.circuits
    scoring, held_out = opened.images.scoring, opened.images.held_out
    if circuits.connected:
        for name, numbers in planned:
            require_path(opened.layer(name), numbers, min(circuits.fractions))
    if spec.run.memory_bytes:
        images = images_of_unit(header.sample, scoring=len(scoring), held_out=len(held_out))
        for name, _ in planned:
            layer = opened.layer(name)
            require(layer, header, images=images, budget_bytes=spec.run.memory_bytes)
    told: list[str] = []
    for n, (name, numbers) in enumerate(planned if self_check else ()):
        checked = opened.self_check(name, numbers)
        layers[n] = replace(layers[n], self_check=checked.difference)
        told += checked.remarks
    return Build(
        header,
        tuple(layers),
        Plan(tuple(planned)),
        spec,
        opened.images.table(),
        tuple(told),
        directions,
        unit_labels,
        opened.images.passed_over,
        opened.images.channels,
        opened.trace,
        opened.images.store,
    )


def atlas_header(opened: OpenedSpec, *, whole: bool = False) -> AtlasHeader:
    """Makes the header of a spec's atlas, for which no layer is opened; SpecError where the spec's
    settings do not go together with the images. `whole` as of `resolve_opened`."""
    spec = opened.spec
    circuits = spec.circuits
    usable = len(opened.images.scoring) + len(opened.images.held_out)
    height, width = opened.size
    if "learned" in circuits.criteria and spec.learned.crop is not None:
        check_crop(spec.learned.crop, (height, width))
    return AtlasHeader(
        schema=SCHEMA_VERSION,
        model=spec.model.reference,
        weights_sha256=opened.weights_sha256,
        images_sha256=opened.images.sha256,
        spec_sha256=spec.sha256(),
        spec=spec.canonical(),
        criteria=circuits.criteria,
        image_criteria=tuple(name for name in circuits.criteria if name in PER_IMAGE),
        fractions=circuits.fractions,
        ablations=circuits.ablation,
        response=response_text(circuits.response),
        top_images=min(circuits.top_images, len(opened.images.scoring)),
        seed=circuits.seed,
        versions=_versions(),
        input_height=height,
        input_width=width,
        connected=circuits.connected,
        redrawn=_redrawn(spec, images=len(opened.images.scoring)),
        grouped=_grouped(spec, images=len(opened.images.scoring)),
        sample=None if whole else decided(circuits, images=usable),
    )


def _redrawn(spec: BuildSpec, *, images: int) -> tuple[tuple[str, int], ...]:
    """The criteria whose circuits are drawn anew, and how often; SpecError where that cannot be."""
    circuits, redrawn = spec.circuits, []
    if circuits.stability:
        redrawn = [(name, DRAWS) for name in circuits.criteria if name in PER_IMAGE]
        if not redrawn:
            raise SpecError(
                f"circuits.stability: {', '.join(circuits.criteria)} "
                f"{'has' if len(circuits.criteria) == 1 else 'have'} no scores of single images to "
                "draw anew; add a criterion that has, such as 'actgrad', or leave stability out"
            )
        if (number := min(circuits.top_images, images)) < FEWEST_IMAGES:
            raise SpecError(
                f"circuits.stability: units have scores of {number} image, and there is nothing to "
                f"draw; give top_images, and scoring images, of {FEWEST_IMAGES} or more"
            )
    if "learned" in circuits.criteria and spec.learned.seeds > 1:
        redrawn.append(("learned", spec.learned.seeds))
    return tuple(redrawn)


def _grouped(spec: BuildSpec, *, images: int) -> tuple[str, ...]:
    """The criteria whose circuits are trained for each sub-feature group; SpecError where that
    cannot be."""
    if not spec.learned.groups or "learned" not in spec.circuits.criteria:
        return ()
    if (number := min(spec.circuits.top_images, images)) < FEWEST_IMAGES_OF_GROUPS:
        raise SpecError(
            f"learned.groups: units have {number} top image{'' if number == 1 else 's'}, too few "
            f"for groups; give top_images, and scoring images, of {FEWEST_IMAGES_OF_GROUPS} or more"
        )
    if not isinstance(spec.circuits.response, str):
        raise SpecError(
            "learned.groups: a group's few images are trained on as crops, and the response at a "
            'position is that of whole images; give response "sum_abs" or "max", or leave groups '
            "out"
        )
    return ("learned",)


def make_tasks(
    build: Build,
    spec: BuildSpec,
    done: Mapping[str, Collection[int]],
    *,
    workers: int,
    max_units: int | None = None,
) -> tuple[Task, ...]:
    """Puts the units that are not committed yet into tasks, layer by layer in the spec's order.

    Args:
        build: the resolved build.
        spec: gives `run.units_per_task`.
        done: committed units by layer.
        workers: how many will share the tasks.
        max_units: takes so many units at most, the first ones. Default: all.
    """
    missing = missing_units(build, done, max_units=max_units)
    units = sum(map(len, missing.values()))
    even = -(-units // (_TASKS_PER_WORKER * workers))
    size = spec.run.units_per_task or max(1, min(_UNITS_PER_TASK, even))
    return tuple(
        Task(layer, tuple(UnitKey(build.header.model, layer, n) for n in numbers[at : at + size]))
        for layer, numbers in missing.items()
        for at in range(0, len(numbers), size)
    )


def missing_units(
    build: Build, done: Mapping[str, Collection[int]], *, max_units: int | None = None
) -> dict[str, tuple[int, ...]]:
    """Lists the units of a build that are not committed, by layer in the spec's order.

    Args:
        build: the resolved build.
        done: committed units by layer.
        max_units: lists so many at most, the first ones. Default: all.
    """
    missing = {}
    left = max_units
    for layer, numbers in build.plan.units:
        missing[layer] = tuple(n for n in numbers if n not in done.get(layer, ()))[:left]
        left = None if left is None else left - len(missing[layer])
    return missing


def estimate(
    build: Build, tasks: Sequence[Task], *, images: int, image_sums: bool = False, left: int = 0
) -> Estimate:
    """Estimates the units, kernels, tasks and bytes of the work in `tasks`, before any of it.

    Args:
        build: the resolved build, perhaps with a sample of its images.
        tasks: what is to do.
        images: how many there are in all.
        image_sums: whether those of each unit are stored too. Default: not.
        left: missing units that are in no task. Default: 0.
    """
    tasks_of: Counter[str] = Counter()
    units_of: Counter[str] = Counter()
    for task in tasks:
        tasks_of[task.layer] += 1
        units_of[task.layer] += len(task.units)
    layers = []
    usable = images - build.left_out
    sample = decided(build.spec.circuits, images=usable)
    held_out = usable * pc.sum(pc.equal(build.images["split"], "held_out")).as_py()
    held_out //= max(1, len(build.images) - build.left_out)
    of_unit = images_of_unit(sample, scoring=usable - held_out, held_out=held_out)
    for index in build.layers:
        units = units_of[index.layer]
        layers.append(
            LayerEstimate(
                layer=index.layer,
                explained=index.explained,
                units=units,
                kernels=index.index.size,
                tasks=tasks_of[index.layer],
                size_bytes=units * _unit_bytes(build.header, index, of_unit, image_sums=image_sums)
                + (units * usable * _RESPONSE_BYTES if sample else 0)
                + (_network_bytes(index) if units else 0),
                self_check=index.self_check,
            )
        )
    return Estimate(
        layers=tuple(layers),
        left=left,
        images=images - build.left_out,
        left_out=build.left_out,
        passed_over=build.passed_over,
        size_bytes=sum(layer.size_bytes for layer in layers),
        remarks=build.remarks,
    )


def _unit_bytes(header: AtlasHeader, index: LayerIndex, images: int, *, image_sums: bool) -> int:
    levels = len(header.fractions)
    per_kernel = sum(4 * header.runs(name) + 1 for name in header.criteria)
    per_kernel += 2 * header.top_images * len(header.image_criteria) + 4
    per_kernel += levels * len(header.redrawn)
    most_groups = min(MOST_GROUPS, header.top_images)
    per_kernel += most_groups * len(header.grouped)
    maps = 4 * header.top_images * index.height * index.width
    protocols = len(header.criteria) * len(header.ablations) * levels
    rows = images + 2 * protocols + (images * protocols if image_sums else 0)
    # Circuits of single images, and of so many groups at most.
    top_circuits = len(header.image_criteria) + most_groups * len(header.group_criteria)
    rows += header.top_images * top_circuits * len(header.ablations) * levels
    return per_kernel * index.index.size + maps + _ROW_BYTES * rows + _UNIT_BYTES


def _network_bytes(index: LayerIndex) -> int:
    """Weights and channel crops of a layer, stored once."""
    weights = sum(
        c.out_channels * c.in_channels * c.kernel_size[0] * c.kernel_size[1]
        for c in index.index.convolutions
    )
    channels = sum(convolution.out_channels for convolution in index.index.convolutions)
    return 4 * weights + _ROW_BYTES * TOP_CROPS * channels


def _versions() -> tuple[tuple[str, str], ...]:
    packages = ("circuit-atlas", "numpy", "pyarrow", "ray", "torch", "torchvision", "zarr")
    python = ("python", platform.python_version())
    return (python, *((name, importlib.metadata.version(name)) for name in packages))
