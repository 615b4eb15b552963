"""How many units and images go together, within a budget of memory.

The budget is for what grows with them: values, gradients, scores, masks. The program itself, the
weights and the images' pixels, which are mapped, come on top.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from math import prod
from pathlib import Path

import psutil
import torch

from circuit_atlas.jobs.circuits.first_convolution import first_convolution_size
from circuit_atlas.jobs.circuits.side_by_side import can_stand_side_by_side
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.scores.crops import crop_size
from circuit_atlas.jobs.scores.learned import images_a_step
from circuit_atlas.jobs.scores.per_image import ALONG_PATH
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.grouping import MOST_GROUPS
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.stability import SETS_AT_ONCE

_FLOAT, _DOUBLE, _INDEX = 4, 8, 8
# The share of what is free that workers may take: other programs grow too.
_SHARE = 0.5
_WEIGHTS_BESIDE = 3
# What the allocator and the libraries' own buffers take on top: as measured, at most .48.
_OVERHEAD = 1.5
_RAN_OUT = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    # All that oneDNN says where it has no room for its code or its buffers.
    "could not create a primitive",
    "could not execute a primitive",
)
_CGROUPS = (
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    (
        "/sys/fs/cgroup/memory/memory.limit_in_bytes",
        "/sys/fs/cgroup/memory/memory.usage_in_bytes",
    ),
)


@dataclass(frozen=True)
class Portion:
    """How many units of a task, and how many images of the set, go through memory together."""

    units: int
    images: int


@dataclass(frozen=True)
class Needs:
    """The memory that a layer's work takes, in bytes.

    Attributes:
        fixed: whatever goes together.
        image: for each image of a batch, on top.
        unit: for each unit, on top.
    """

    fixed: int
    image: int
    unit: int

    @property
    def smallest(self) -> int:
        """Bytes for one unit and one image at a time."""
        return self.fixed + self.image + self.unit

    def portion(
        self, budget_bytes: int, *, batch_size: int, most_units: int | None = None
    ) -> Portion | None:
        """Fits as many as the budget holds, images first up to half of it, and at most so many;
        None where not one fits."""
        if budget_bytes < self.smallest:
            return None
        images = (budget_bytes // 2 - self.fixed) // max(1, self.image)
        images = max(1, min(batch_size, images))
        units = (budget_bytes - self.fixed - images * self.image) // max(1, self.unit)
        return Portion(max(1, min(units, most_units or units)), images)


def needs(layer: TracedLayer, header: AtlasHeader, *, images: int) -> Needs:
    """Estimates the memory that a layer's work takes.

    Args:
        layer: the layer.
        header: criteria, fractions and the rest of what is computed.
        images: the number of usable images, of both splits.
    """
    network, kernels = layer.network, layer.upstream.index.size
    stored, running = _values(network)
    first = first_convolution_size(network)
    force = "force" in header.criteria
    beside = 0
    if header.image_criteria and can_stand_side_by_side(network):
        # The weights of an image's own circuit, pruned, and once more as they are moved.
        beside = _WEIGHTS_BESIDE * _weights(network)
    per_image = max(stored, running + first * _FLOAT + beside)
    if force:
        masked = stored + first * (_FLOAT + _INDEX) + _output_gradients(network)
        per_image = max(per_image, masked)
    trained = _training_images(layer, header) * (2 * stored + running)
    redrawn = 0
    if header.redrawn:
        # One unit's scores at a time, to and from the form that they are stored in, and sums.
        redrawn = kernels * (2 * header.top_images * _DOUBLE + SETS_AT_ONCE * _FLOAT)
    grouped = _group_training(layer, header) if header.grouped else 0
    once = max(_unfolded(network), trained + grouped, redrawn)
    return Needs(
        fixed=int(_OVERHEAD * (once + 2 * _weights(network))),
        image=int(_OVERHEAD * per_image),
        unit=int(_OVERHEAD * _unit(layer, header, images, kernels)),
    )


def images_forward(network: Network, *, maps: int, budget_bytes: int, most: int) -> int:
    """Says how many images, at least one, go through a network together where nothing is kept for
    the way back.

    Args:
        network: the network.
        maps: numbers of the largest maps of units that are read off for one image.
        budget_bytes: memory that it may take.
        most: no more than so many.
    """
    running = _OVERHEAD * (_values(network)[1] + maps * _FLOAT)
    return max(1, min(most, int((budget_bytes - _OVERHEAD * _unfolded(network)) // running)))


def require(layer: TracedLayer, header: AtlasHeader, *, images: int, budget_bytes: int) -> None:
    """Raises SpecError where a budget does not hold one unit and one image."""
    smallest = needs(layer, header, images=images).smallest
    if budget_bytes < smallest:
        smaller = " or a smaller batch of [learned]" if "learned" in header.criteria else ""
        raise SpecError(
            f"run.memory_bytes = {budget_bytes} is too small for layer {layer.index.layer!r}: one "
            f"unit and one image take {smallest}; give at least that, or fewer criteria, "
            f"fractions or top_images{smaller}"
        )


def free_bytes(device: torch.device) -> int:
    """Says how many bytes are free: on the device, on this machine, or in the control group that
    holds this process."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    for limit, used in _CGROUPS:
        try:
            room = int(Path(limit).read_text()) - int(Path(used).read_text())
        except (OSError, ValueError):
            continue
        free = min(free, max(0, room))
    return free


def default_budget(device: torch.device, *, workers: int) -> int:
    """Gives a worker's share of what is free, in bytes, where so many workers may share the
    machine; each has a GPU of its own."""
    sharing = 1 if device.type == "cuda" else max(1, workers)
    return int(_SHARE * free_bytes(device) / sharing)


def is_out_of_memory(error: BaseException) -> bool:
    """Says whether an error means that memory ran out, in any of the ways that libraries put it."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    told = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in told for words in _RAN_OUT)


def _values(network: Network) -> tuple[int, int]:
    """Bytes of all steps' results of one image, and of those alive at one time where each goes
    once it has been read."""
    sizes = {step.name: prod(step.shape) * _FLOAT for step in network.steps}
    sizes[network.image] = prod(network.image_shape) * _FLOAT
    left = Counter(network.reads)
    alive = peak = sizes[network.image]
    for step in network.steps:
        alive += sizes[step.name]
        peak = max(peak, alive)
        for name in step.inputs:
            left[name] -= 1
            if not left[name]:
                alive -= sizes[name]
    return sum(sizes.values()), peak


def _output_gradients(network: Network) -> int:
    """Bytes of the gradients by the convolutions' outputs, for one unit."""
    return sum(prod(s.shape) * _FLOAT for s in network.steps if s.convolution is not None)


def _unfolded(network: Network) -> int:
    """Bytes of all unfolded inputs for one image, with the activation maps of one convolution."""
    total = largest = 0
    for step in network.steps:
        if step.convolution is not None:
            weight = network.sites[step.convolution].weight
            _, inputs, height, width = weight.shape
            groups = network.sites[step.convolution].groups
            positions = prod(step.shape[1:])
            total += groups * inputs * height * width * positions * _FLOAT
            largest = max(largest, inputs * positions * _FLOAT)
    return total + largest


def _training_images(layer: TracedLayer, header: AtlasHeader) -> float:
    """How many images a step of training takes at most, a crop for its share of one; 0 where
    nothing is trained."""
    if "learned" not in header.criteria:
        return 0
    training = header.spec_content["learned"]
    batch: int = training["batch"]
    # For the response at one position, its value on each whole image.
    if "@" in header.response:
        return images_a_step(batch, 1)
    _, height, width = layer.network.image_shape
    crop = crop_size(layer.network, training["crop"])
    positions = layer.index.height * layer.index.width
    return images_a_step(batch, positions) * prod(crop) / (height * width)


def _group_training(layer: TracedLayer, header: AtlasHeader) -> int:
    """Bytes of one unit whose groups' rankings are trained, beside the images of a step: scores of
    its top images, to and from the form that they are stored in, and of groups; its own weights."""
    scores = 2 * header.top_images * _DOUBLE + 2 * min(MOST_GROUPS, header.top_images) * _DOUBLE
    return layer.upstream.index.size * (scores + 4 * _INDEX) + 2 * _weights(layer.network)


def _weights(network: Network) -> int:
    return sum(site.weight.numel() * _FLOAT for site in network.sites)


def _unit(layer: TracedLayer, header: AtlasHeader, images: int, kernels: int) -> int:
    levels, top = len(header.fractions), header.top_images
    scored = len(header.image_criteria)
    position = layer.index.height * layer.index.width * _FLOAT
    # The signed contribution is scored as a criterion without scores of single images.
    stored = kernels * _FLOAT * (1 + scored * (1 + top)) + images * position
    # Gradients that are averaged along a path stand beside those of one of its images.
    walks = 2 if ALONG_PATH.intersection(header.criteria) else 1
    scoring = walks * _output_gradients(layer.network) + (1 + scored) * kernels * (
        2 * _FLOAT + _DOUBLE
    )
    groups = len(header.group_criteria) * min(MOST_GROUPS, top)
    runs = len(header.criteria) * levels * images + (scored + groups) * levels * top
    masks = (scored * top + groups) * levels
    running = kernels * (len(header.criteria) * (levels + _FLOAT) + masks)
    running += kernels * (
        len(header.redrawn) * levels + len(header.grouped) * min(MOST_GROUPS, top)
    )
    running += len(header.ablations) * runs * position
    force = 0
    if "force" in header.criteria:
        stored += levels * kernels * _FLOAT
        force = levels * kernels * (_DOUBLE + _FLOAT + 1)
    learned = 0
    if "learned" in header.criteria:
        stored += kernels * _FLOAT * dict(header.redrawn).get("learned", 1)
        # The unit's own weights, twice, and its ranking, with what gradients need of it.
        learned = 2 * _weights(layer.network) + kernels * 4 * _INDEX
    return stored + max(scoring, running, force, learned)
