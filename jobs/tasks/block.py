"""What the units of a task share: the full network's responses, and scores from one pass."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.faithfulness import is_constant
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.responses import top_images
from circuit_atlas.jobs.engine.targets import respond
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.images.classes import UnitClasses
from circuit_atlas.jobs.network.receptive_field import Interval, receptive_fields
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.integrated import ImagePath, mean_colour
from circuit_atlas.jobs.scores.over_images import BlockScores, score_images
from circuit_atlas.jobs.scores.per_image import ALONG_PATH, CENTRED, PER_IMAGE
from circuit_atlas.jobs.spec.circuits import CircuitsSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.progress import Progress
from circuit_atlas.jobs.tasks.sample import UnitImages
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.sample import Why

START = "actgrad"
"""The criterion whose scores a learned ranking starts from."""
_FORWARD_TOGETHER = 2


@dataclass(frozen=True)
class Block:
    """What the units of a task share, computed once.

    Attributes:
        images: ids of the units' images, scoring ones first; an image's index is its index here.
        drawn: why each of them is the units', as `UnitImages` has it.
        scoring: how many of them are for scoring.
        maps: (units, images, height, width), each unit's full response.
        responses: (units, images).
        top: for each unit, indices of its top images by rank.
        scores: by criterion, for the live units, in the order of `live`; with the signed
            `contribution`, and with `START` where rankings are learned.
        live: numbers of the units that are neither dead nor failing.
        means: every kernel's mean contribution, where an ablation or a criterion asks for it.
        fields: the layer's receptive fields by row and by column.
        classes: which images are of a unit's class; None where the layer gives no vector.
        together: images that go through the network at one time.
        shared_s: a unit's share, in seconds, of the work done for all of them.
        progress: is told of each step.
    """

    opened: OpenedSpec
    layer: TracedLayer
    header: AtlasHeader
    numbers: tuple[int, ...]
    images: tuple[int, ...]
    drawn: tuple[Why | None, ...]
    scoring: int
    maps: NDArray[np.float32]
    responses: NDArray[np.float32]
    top: Mapping[int, Sequence[int]]
    scores: Mapping[str, BlockScores]
    live: tuple[int, ...]
    means: KernelMeans | None
    fields: tuple[Interval, Interval]
    classes: UnitClasses | None
    together: int
    shared_s: float
    progress: Progress

    def full(self, number: int) -> NDArray[np.float32]:
        """Gives the unit's response in the whole network: (images, height, width)."""
        return self.maps[self.numbers.index(number)]

    def batches(self, image_indices: Sequence[int]) -> Iterator[Tensor]:
        """Yields the images of those indices, (batch, channels, height, width) at a time."""
        return self.opened.batches([self.images[index] for index in image_indices], self.together)

    def counted(self, image_indices: Sequence[int]) -> Iterator[Tensor]:
        """Does the same, and counts them in the progress of the step that is under way."""
        return self.progress.counted(self.batches(image_indices))


def open_block(
    opened: OpenedSpec,
    layer: TracedLayer,
    header: AtlasHeader,
    numbers: Sequence[int],
    *,
    together: int,
    unit_labels: Mapping[int, str],
    of_units: UnitImages | None = None,
    progress: Progress | None = None,
) -> Block:
    """Runs the full network on the units' images, `together` at a time, and scores all units of the
    block together.

    Args:
        opened: the spec.
        layer: the layer.
        header: what is computed.
        numbers: the units.
        together: how many images go through the network at one time.
        unit_labels: those of the layer.
        of_units: the images that all of these units have. Default: all that can be used.
        progress: is told of each step. Default: nobody looks on.
    """
    started = time.perf_counter()
    progress = progress or Progress()
    of_units = of_units or UnitImages.every(opened.images)
    spec, scoring, images = opened.spec.circuits, of_units.scoring, of_units.ids
    batches = progress.images(opened.batches(images, together), "responses", len(images))
    maps, responses = _full_responses(layer, numbers, batches, spec)
    live, top = [], {}
    for row, number in enumerate(numbers):
        if np.isfinite(maps[row]).all() and not is_constant(maps[row]):
            live.append(number)
            top[number] = top_images(responses[row], range(len(scoring)), header.top_images)
    scores: Mapping[str, BlockScores] = {}
    means = None
    if live:
        ablations = (*spec.ablation, opened.spec.learned_ablation)
        if "mean" in ablations or CENTRED.intersection(_scored(spec)):
            batches = opened.batches(scoring, together)
            means = kernel_means(layer, progress.images(batches, "means", len(scoring)))
        path = _path(opened, scoring, together, means)
        batches = opened.batches(scoring, forward_together(opened, together))
        scores = score_images(
            layer,
            live,
            progress.images(batches, "scores", len(scoring)),
            keep=top,
            criteria=_scored_by_image(spec),
            response=spec.response,
            block=len(live),
            means=means,
            path=path,
        )
    return Block(
        opened=opened,
        layer=layer,
        header=header,
        numbers=tuple(numbers),
        images=images,
        drawn=of_units.drawn,
        scoring=len(scoring),
        maps=maps,
        responses=responses,
        top=top,
        scores=scores,
        live=tuple(live),
        means=means,
        fields=receptive_fields(layer.network),
        classes=_classes(opened, layer, images, unit_labels),
        together=together,
        shared_s=(time.perf_counter() - started) / len(numbers),
        progress=progress,
    )


def forward_together(opened: OpenedSpec, together: int) -> int:
    """Says how many of so many images go through a pass that keeps all values for the way back,
    image by image: on a processor more of them are no faster."""
    return min(together, _FORWARD_TOGETHER) if opened.device.type == "cpu" else together


def _path(
    opened: OpenedSpec, scoring: Sequence[int], together: int, means: KernelMeans | None
) -> ImagePath | None:
    spec = opened.spec.circuits
    if not ALONG_PATH.intersection(spec.criteria):
        return None
    colour = mean_colour(opened.batches(scoring, together))
    ablated = means if spec.ablation[0] == "mean" else None
    return ImagePath(spec.integrated_steps, colour, ablated)


def _scored(spec: CircuitsSpec) -> tuple[str, ...]:
    """The scores that the criteria take, that which FORCE iterates among them."""
    return (*spec.criteria, *([spec.force_score] if "force" in spec.criteria else []))


def _scored_by_image(spec: CircuitsSpec) -> list[str]:
    """What is scored image by image. Rankings start from activation x gradient."""
    asked: list[str] = [name for name in spec.criteria if name in PER_IMAGE]
    if "learned" in spec.criteria and START not in asked:
        asked.append(START)
    return [*asked, CONTRIBUTION]


def _classes(
    opened: OpenedSpec, layer: TracedLayer, images: Sequence[int], unit_labels: Mapping[int, str]
) -> UnitClasses | None:
    if (layer.index.height, layer.index.width) != (1, 1):
        return None
    labels = [opened.images.infos[image].label for image in images]
    numbered = layer.index.channels if layer.gives_class_scores else 0
    return UnitClasses(unit_labels, labels, numbered=numbered)


def _full_responses(
    layer: TracedLayer, numbers: Sequence[int], batches: Iterable[Tensor], spec: CircuitsSpec
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Each unit's maps in the whole network, (units, images, height, width), and its responses,
    (units, images)."""
    targets = layer.targets(numbers)
    with torch.no_grad():
        maps = torch.cat([targets.maps(layer.network.output(batch)) for batch in batches], 1)
        return maps.cpu().numpy(), respond(maps, spec.response).cpu().numpy()
