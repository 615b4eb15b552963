"""Scores of a block of units on one image, by all criteria that are means over images."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.conv_gradients import LayerPass, averaged_passes, site_passes
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.targets import Response, Targets
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.scores.cla import cla
from circuit_atlas.jobs.scores.integrated import ImagePath
from circuit_atlas.jobs.scores.per_image import ALONG_PATH, CENTRED, OWN_WALK, site_scores


@dataclass(frozen=True)
class ImageScorer:
    """What scores units image by image.

    Attributes:
        layer: the layer.
        criteria: names in `per_image.PER_IMAGE`, and `contribution`.
        response: the number that is explained.
        means: of the scoring images, for those in `per_image.CENTRED`; None where there is none.
        path: for those in `per_image.ALONG_PATH`; None where there is none.
        others_s: for each criterion, the seconds so far that went into others alone.
    """

    layer: TracedLayer
    criteria: Sequence[str]
    response: Response
    means: KernelMeans | None
    path: ImagePath | None
    others_s: Counter[str] = field(default_factory=Counter)

    def scores(
        self,
        forward: Forward,
        image: Tensor,
        blocks: Sequence[tuple[Targets, Mapping[int, Tensor]]],
    ) -> dict[str, Tensor]:
        """Scores units: (units, kernels) for each criterion, 0 where a kernel does not reach.

        Args:
            forward: the image's values.
            image: (1, channels, height, width).
            blocks: units that walk back together, with their rows as in `TracedLayer.unit_rows`.
        """
        parts: dict[str, list[Tensor]] = {name: [] for name in self.criteria}
        for targets, unit_rows in blocks:
            shape = (len(targets), self.layer.upstream.index.size)
            for rows in parts.values():
                rows.append(image.new_zeros(shape))
            started = time.perf_counter()
            for names, scored in self._passes(forward, image, targets, unit_rows):
                for name, values in site_scores(scored.calls, names).items():
                    self.layer.write_scores(parts[name][-1], scored, values)
                now = time.perf_counter()
                self.others_s.update(dict.fromkeys(parts.keys() - names, now - started))
                started = now
            if "cla" in parts:
                for ordinal, values in cla(forward, targets, self.response, one_row=unit_rows):
                    self.layer.write_scores(parts["cla"][-1], LayerPass(ordinal, ()), values)
                now = time.perf_counter()
                self.others_s.update(dict.fromkeys(parts.keys() - {"cla"}, now - started))
        return {name: torch.cat(rows) for name, rows in parts.items()}

    def _passes(
        self, forward: Forward, image: Tensor, targets: Targets, unit_rows: Mapping[int, Tensor]
    ) -> Iterator[tuple[list[str], LayerPass]]:
        """Every convolution with what each criterion's calls are made with."""
        at_once = [name for name in self.criteria if name not in ALONG_PATH | OWN_WALK]
        along = [name for name in self.criteria if name in ALONG_PATH]
        if at_once:
            centred = self.means if CENTRED.intersection(at_once) else None
            inputs = None if centred is None else centred.inputs
            for scored in site_passes(
                forward, targets, self.response, one_row=unit_rows, mean_inputs=inputs
            ):
                yield at_once, scored
        if along:
            if self.path is None:
                raise ValueError(f"gradients of {along[0]} are averaged along a path: give one")
            for scored in averaged_passes(
                self.path.forwards(image, forward),
                targets,
                self.response,
                one_row=unit_rows,
                mean_inputs=self.path.mean_inputs,
            ):
                yield along, scored
