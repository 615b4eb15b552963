"""Many circuits run on many images, batch by batch: what circuits share is computed once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps, open_first_convolution
from circuit_atlas.jobs.circuits.connectivity import Connectivity
from circuit_atlas.jobs.circuits.first_convolution import FirstConvolution
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.traced_layer import TracedLayer


@dataclass(frozen=True)
class CircuitRun:
    """Circuits of one unit to be run on some images.

    Attributes:
        number: the unit.
        ablation: what a pruned kernel becomes.
        masks: (circuits, kernels) bool; or (circuits, images, kernels), where each image goes
            through circuits of its own.
        full: (images, height, width), the whole network's map on those images.
        image_indices: the images' indices among all images of the task, in any order.
        maps: (circuits, images, height, width), filled by `run_circuits`.
        acting: (circuits,) or (circuits, images), how many kernels of each act; filled by
            `run_circuits`.
        blind: (circuits,) bool, those that see nothing of the image, and so do the same with every
            one; false where each image has its own. Filled by `run_circuits`.
    """

    number: int
    ablation: str
    masks: NDArray[np.bool_]
    full: NDArray[np.float32]
    image_indices: Sequence[int]
    maps: NDArray[np.float32] = field(init=False)
    acting: NDArray[np.int64] = field(init=False)
    blind: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        shape = (len(self.masks), *self.full.shape)
        object.__setattr__(self, "maps", np.empty(shape, dtype=self.full.dtype))
        object.__setattr__(self, "acting", np.zeros(self.masks.shape[:-1], dtype=np.int64))
        object.__setattr__(self, "blind", np.zeros(len(self.masks), dtype=np.bool_))


def run_circuits(
    layer: TracedLayer,
    runs: Sequence[CircuitRun],
    batches: Callable[[Sequence[int]], Iterable[Tensor]],
    *,
    means: KernelMeans | None,
) -> None:
    """Fills the maps of every run, and counts the kernels that act.

    Args:
        layer: the layer.
        runs: circuits and images.
        batches: gives the images of those indices in order, (batch, channels, height, width) at a
            time.
        means: every kernel's mean contribution, where a run asks for mean ablation.
    """
    connectivity = Connectivity.of(layer)
    for each in runs:
        # An image at a time: what is found on the way is as large as the masks.
        of_images = each.masks if each.masks.ndim > 2 else each.masks[:, None]
        of_each = of_images.swapaxes(0, 1)
        counts = [connectivity.acting(each.number, masks).sum(axis=1) for masks in of_each]
        each.acting[:] = np.stack(counts, axis=1).reshape(each.acting.shape)
        if each.masks.ndim == 2 and not each.acting.all():
            each.blind[:] = ~connectivity.sees_image(each.number, each.masks)
    indices = sorted({index for each in runs for index in each.image_indices})
    start = 0
    for batch in batches(indices):
        row_of = {index: row for row, index in enumerate(indices[start : start + len(batch)])}
        start += len(batch)
        for ablation in sorted({each.ablation for each in runs}):
            shift = means if ablation == "mean" else None
            first = open_first_convolution(layer, batch, shift)
            for each in runs:
                here = [n for n, index in enumerate(each.image_indices) if index in row_of]
                if each.ablation != ablation or not here:
                    continue
                rows = [row_of[each.image_indices[n]] for n in here]
                # Images side by side are a view, which costs no copy.
                beside = rows == list(range(rows[0], rows[0] + len(rows)))
                part = slice(rows[0], rows[-1] + 1) if beside else rows
                first_part = None if first is None else first.part(part)
                _run_images(layer, each, here, batch[part], shift, first_part)


def _run_images(
    layer: TracedLayer,
    run: CircuitRun,
    here: list[int],
    images: Tensor,
    means: KernelMeans | None,
    first: FirstConvolution | None,
) -> None:
    """Fills the maps of some of a run's images; `here` are their indices among the run's."""
    of_images = run.masks.ndim > 2
    # A circuit of all kernels is the network itself.
    whole = run.masks.sum(axis=-1) == layer.reachable(run.number).sum()
    whole = whole.all(axis=1) if of_images else whole
    run.maps[np.ix_(whole, here)] = run.full[here]
    blind = run.blind & ~whole
    if blind.any() and 0 in here:
        image = images[:1].expand(int(blind.sum()), -1, -1, -1)
        once = None if first is None else first.part([0] * len(image))
        masks = run.masks[blind][None]
        maps = circuit_maps(layer, run.number, masks, image, means=means, first=once)[0]
        run.maps[blind] = maps.cpu().numpy()[:, None]
    for level in np.flatnonzero(~(whole | blind)):
        masks = run.masks[level, here] if of_images else run.masks[level]
        maps = circuit_maps(layer, run.number, masks[None], images, means=means, first=first)[0]
        run.maps[level, here] = maps.cpu().numpy()
