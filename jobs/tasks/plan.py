"""The plan of a build: from a spec and what is committed already to ordered tasks."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.jobs.circuits.connected import require_path
from circuit_atlas.jobs.engine.targets import check_position
from circuit_atlas.jobs.images.prepared_images import Prepare, prepare_here
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.atlas_header import atlas_header
from circuit_atlas.jobs.tasks.labels_file import read_labels
from circuit_atlas.jobs.tasks.layer_patterns import settle_layers
from circuit_atlas.jobs.tasks.memory import require
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.remarks import remarks
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.keys import Numbered, UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixels import PixelsRecord
from circuit_atlas.storage_schema.sample import images_of_unit
from circuit_atlas.storage_schema.template import Plan

# So many units share a forward pass as a rule: more would make progress coarse and a lost task
# dear, fewer would repeat the forward pass.
_UNITS_PER_TASK = 16
_TASKS_PER_WORKER = 2


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
