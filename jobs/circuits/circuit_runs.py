"""Many circuits run on many images, batch by batch: what circuits share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.first_convolution import Stem
from circuit_atlas.jobs.circuits.pruned import KernelMeans, circuit_maps, open_stem
from circuit_atlas.jobs.engine.traced_layer import TracedLayer


@dataclass(frozen=True)
class CircuitRun:
    """Circuits of one unit to be run on some images.

    Attributes:
        number: the unit.
        ablation: what a pruned kernel becomes.
        masks: (circuits, kernels) bool.
        full: (images, height, width), the whole network's map on those images.
        places: of the images among all, in any order.
        maps: (circuits, images, height, width), filled by `run`.
    """

    number: int
    ablation: str
    masks: NDArray[np.bool_]
    full: NDArray[np.float32]
    places: Sequence[int]
    maps: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.masks), *self.full.shape)
        object.__setattr__(self, "maps", np.empty(shape, dtype=self.full.dtype))


def run(
    layer: TracedLayer,
    trials: Sequence[CircuitRun],
    batches: Callable[[Sequence[int]], Iterable[Tensor]],
    *,
    means: KernelMeans | None,
) -> None:
    """Fills every trial's maps.

    Args:
        layer: the layer.
        trials: what to run.
        batches: images (batch, 3, height, width) of the places given, in order.
        means: every kernel's mean contribution, where a trial asks for mean ablation.
    """
    wanted = sorted({place for trial in trials for place in trial.places})
    start = 0
    for batch in batches(wanted):
        inside = {place: n for n, place in enumerate(wanted[start : start + len(batch)])}
        start += len(batch)
        for ablation in sorted({trial.ablation for trial in trials}):
            shift = means if ablation == "mean" else None
            stem = open_stem(layer, batch, shift)
            for trial in trials:
                held = [n for n, place in enumerate(trial.places) if place in inside]
                if trial.ablation != ablation or not held:
                    continue
                rows = [inside[trial.places[n]] for n in held]
                # Images side by side are a view, which costs no copy.
                beside = rows == list(range(rows[0], rows[0] + len(rows)))
                part = slice(rows[0], rows[-1] + 1) if beside else rows
                stem_part = None if stem is None else stem.part(part)
                _run_one(layer, trial, held, batch[part], shift, stem_part)


def _run_one(
    layer: TracedLayer,
    trial: CircuitRun,
    held: list[int],
    images: Tensor,
    means: KernelMeans | None,
    stem: Stem | None,
) -> None:
    # A circuit of all kernels is the network itself.
    whole = trial.masks.sum(axis=1) == layer.reachable(trial.number).sum()
    trial.maps[np.ix_(whole, held)] = trial.full[held]
    found = circuit_maps(layer, trial.number, trial.masks[~whole], images, means=means, stem=stem)
    trial.maps[np.ix_(~whole, held)] = found.cpu().numpy()
