"""How much work a build has left, and how many bytes it will store at most."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow.compute as pc

from circuit_atlas.jobs.tasks.plan import Build, Task
from circuit_atlas.jobs.tasks.sample import decided
from circuit_atlas.storage_schema.grouping import MOST_GROUPS
from circuit_atlas.storage_schema.header import AtlasHeader, LayerIndex
from circuit_atlas.storage_schema.network import TOP_CROPS
from circuit_atlas.storage_schema.sample import images_of_unit

# A unit's tables take about 100 bytes a row; a commit record and file headers some kilobytes.
_ROW_BYTES = 100
_UNIT_BYTES = 16_000
# Where units have images of their own: a response and a position of each image and unit.
_RESPONSE_BYTES = 8


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


def estimate(
    build: Build,
    tasks: Sequence[Task],
    *,
    images: int,
    image_sums: bool = False,
    left: int = 0,
    pixels_bytes: int = 0,
) -> Estimate:
    """Estimates the units, kernels, tasks and bytes of the work in `tasks`, before any of it.

    Args:
        build: the resolved build, perhaps with a sample of its images.
        tasks: what is to do.
        images: how many there are in all.
        image_sums: whether those of each unit are stored too. Default: not.
        left: missing units that are in no task. Default: 0.
        pixels_bytes: of the images that are not prepared yet. Default: 0.
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
        size_bytes=pixels_bytes + sum(layer.size_bytes for layer in layers),
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
