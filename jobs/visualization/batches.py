"""What the pictures of one task are of: networks of the right size, circuits, and how photos do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.pruned import (
    KernelMeans,
    circuit_maps,
    kernel_means,
    open_stem,
    pruned,
)
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.graph import Network, Replaced
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.visualization.objective import (
    Best,
    Look,
    Objective,
    peaks,
    through,
    weighted,
    whole,
)
from circuit_atlas.jobs.visualization.variants import Variant
from circuit_atlas.storage_schema.errors import ModelError, NonFiniteError, SpecError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.wording import one_line

# A picture holds what the unit sees about twice along each side, and few sizes are met: the model
# is traced anew for each.
_SEEN = 2
_STEP = 32
_LEAST = 64
# Results of all steps, their gradients, and what the libraries take on top.
_OVERHEAD = 3 * 4


@dataclass(frozen=True)
class VisualizationBatch:
    """Aims of one layer, ready to be looked at.

    Attributes:
        aims: what the pictures are made for.
        size: height and width of the pictures.
        looks: of each aim through a circuit; None for those of the whole network.
        network: the whole network, for pictures of that size.
        weights: (aims, channels), over its output.
        photos: of each aim, the objective of the photo that does best by it, and its id.
        together: pictures that go through the whole network at one time.
    """

    aims: tuple[Variant, ...]
    size: tuple[int, int]
    looks: tuple[Look | None, ...]
    network: Network
    weights: Tensor
    photos: tuple[tuple[float, int], ...]
    together: int

    def objective(self, places: Sequence[int]) -> Objective:
        """Of the pictures for the aims at those places."""
        factors = torch.tensor(
            [self.aims[place].factor for place in places], device=self.weights.device
        )
        looks: list[tuple[Sequence[int], Look]] = []
        rows = [row for row, place in enumerate(places) if self.looks[place] is None]
        for start in range(0, len(rows), self.together):
            some = rows[start : start + self.together]
            weights = self.weights[[places[row] for row in some]]
            looks.append((some, whole(self.network, weights, factors[some])))
        for row, place in enumerate(places):
            look = self.looks[place]
            if look is not None:
                looks.append(([row], look))
        return Objective(looks, factors)

    def margin(self, place: int, response: float) -> float:
        """By how much a response is beyond that of every photo, in the direction of the aim."""
        return (response - self.photos[place][0]) * self.aims[place].factor


class Subjects:
    """Opens subjects; keeps traced networks and how photos do between tasks."""

    def __init__(self, source: OpenedSpec, header: AtlasHeader, *, budget_bytes: int) -> None:
        self._source = source
        self._header = header
        self._budget_bytes = budget_bytes
        self._alone = False
        self._best: dict[str, dict[tuple[str, float], Best]] = {}
        self._means: dict[str, KernelMeans] = {}

    def halve(self) -> bool:
        """From now on use half of the memory; False where that is no help."""
        self._budget_bytes //= 2
        return not self._alone

    def open(self, name: str, aims: Sequence[Variant], *, node: bool) -> VisualizationBatch:
        """Aims of units of a layer, or with `node` of channels of a convolution, all of one kind.

        Raises:
            SpecError: the model does not take pictures of the size that the spec asks for.
            NonFiniteError: a unit responds with a number to no photo.
        """
        owner = self._owner(name) if node else name
        full = self._source.layer(owner)
        step = _step_of(full.network, name) if node else full.network.target.name
        size = self._size(full.network.up_to(step))
        layer, size = self._sized(full, size)
        network = layer.network.up_to(step)
        best = self._photos(full)
        numbers = [aim.key.unit for aim in aims]
        if node:
            weights = torch.zeros((len(aims), network.target.shape[0]), device=self._source.device)
            weights[range(len(aims)), numbers] = 1.0
        else:
            weights = layer.targets(numbers).directions
        photos = []
        for aim in aims:
            found = best[name if node else "", aim.factor]
            photos.append((float(found.values[aim.key.unit]), int(found.photos[aim.key.unit])))
        looks: list[Look | None] = [None] * len(aims)
        for place, (look, photo) in self._circuits(full, layer, aims).items():
            looks[place], photos[place] = look, photo
        for aim, (response, _) in zip(aims, photos, strict=True):
            if not np.isfinite(response):
                of = "channel" if node else "unit"
                raise NonFiniteError(
                    f"{of} {aim.key.unit} of {name!r} responds with NaN or infinity to every "
                    "image; look at the weights and the preprocessing"
                )
        return VisualizationBatch(
            aims=tuple(aims),
            size=size,
            looks=tuple(looks),
            network=network,
            weights=weights,
            photos=tuple(photos),
            together=self._together(network),
        )

    def _owner(self, convolution: str) -> str:
        """A layer of the spec that the convolution is upstream of."""
        for layer in self._source.spec.layers:
            sites = self._source.layer(layer.name).network.sites
            if any(site.name == convolution for site in sites):
                return layer.name
        raise ModelError(f"no layer of the spec has the convolution {convolution!r} upstream")

    def _size(self, network: Network) -> tuple[int, int]:
        """Height and width of pictures of what the network ends in."""
        height, width = self._source.images.size
        asked = self._source.spec.features.size
        if asked is not None:
            return asked, asked
        seen = 1
        for low, high in receptive_fields(network):
            middle = len(low) // 2
            seen = max(seen, int(high[middle] - low[middle]) + 1)
        side = max(_LEAST, -(-_SEEN * seen // _STEP) * _STEP)
        return min(side, height), min(side, width)

    def _sized(
        self, full: TracedLayer, size: tuple[int, int]
    ) -> tuple[TracedLayer, tuple[int, int]]:
        """The layer for pictures of a size; of the images' size where the model takes no other and
        none was asked for."""
        try:
            layer = self._source.layer(full.index.layer, size)
            if layer.upstream.index == full.upstream.index:
                return layer, size
            reason = "other kernels reach the layer then"
        except ModelError as error:
            reason = one_line(error)
        if self._source.spec.features.size is not None:
            raise SpecError(
                f"features.size: the model does not take pictures of {size[0]} x {size[1]} "
                f"({reason}); leave size out"
            )
        return full, self._source.images.size

    def _together(self, network: Network) -> int:
        values = sum(prod(step.shape) for step in network.steps)
        room = self._budget_bytes // max(1, _OVERHEAD * values)
        self._alone = room <= 1
        return max(1, min(self._source.spec.run.batch_size, room))

    def _photos(self, full: TracedLayer) -> dict[tuple[str, float], Best]:
        """How photos of both splits do in the whole network, by name and factor: the layer's units
        under "", positive and negative, and the channels of its convolutions, positive."""
        name, network = full.index.layer, full.network
        if name in self._best:
            return self._best[name]
        steps = {site.name: site.steps[0] for site in network.sites}
        units = len(full.index.units)
        found = {(site.name, 1.0): Best(np.ones(len(site.weight))) for site in network.sites}
        found |= {("", factor): Best(np.full(units, factor)) for factor in (1.0, -1.0)}
        directions = full.targets(range(full.index.channels, units)).directions
        for photos, batch in self._batches(self._together(network)):
            with torch.no_grad():
                values = network.forward(batch)
                maps = {one: values[step] for one, step in steps.items()}
                output = values[network.target.name]
                mixed = [weighted(output, one[None])[:, None] for one in directions]
                maps[""] = torch.cat([output, *mixed], 1)
                for (one, factor), best in found.items():
                    factors = torch.tensor(factor, device=batch.device).expand(maps[one].shape[:2])
                    best.see(peaks(maps[one], factors).cpu().numpy(), photos)
        self._best[name] = found
        return found

    def _circuits(
        self, full: TracedLayer, layer: TracedLayer, aims: Sequence[Variant]
    ) -> dict[int, tuple[Look, tuple[float, int]]]:
        """By place, what looks through the circuit of each aim that has one, and how photos do."""
        places = [place for place, aim in enumerate(aims) if aim.mask is not None]
        if not places:
            return {}
        means = self._kernel_means(full)
        best = self._circuit_photos(full, [aims[place] for place in places], means)
        # Aims of both signs share a mask, and so the weights.
        replaced: dict[int, Replaced] = {}
        found: dict[int, tuple[Look, tuple[float, int]]] = {}
        for row, place in enumerate(places):
            aim = aims[place]
            if aim.mask is not None and id(aim.mask) not in replaced:
                replaced[id(aim.mask)] = pruned(layer, aim.key.unit, aim.mask, means)
            factors = torch.tensor([aim.factor], device=self._source.device)
            look = through(layer, aim.key.unit, replaced[id(aim.mask)], factors)
            found[place] = look, (float(best.values[row]), int(best.photos[row]))
        return found

    def _circuit_photos(
        self, full: TracedLayer, aims: Sequence[Variant], means: KernelMeans | None
    ) -> Best:
        """How photos do in the circuit of each aim."""
        best = Best(np.array([aim.factor for aim in aims]))
        by_unit: dict[int, list[int]] = {}
        for row, aim in enumerate(aims):
            by_unit.setdefault(aim.key.unit, []).append(row)
        for photos, batch in self._batches(self._together(full.network)):
            stem = open_stem(full, batch, means)
            table: NDArray[np.float32] = np.empty((len(photos), len(aims)), np.float32)
            for number, rows in by_unit.items():
                masks = {id(aims[row].mask): aims[row].mask for row in rows}
                stacked = np.stack([mask for mask in masks.values() if mask is not None])
                maps = circuit_maps(full, number, stacked, batch, means=means, stem=stem)
                places = list(masks)
                for row in rows:
                    own = maps[places.index(id(aims[row].mask))]
                    factors = torch.full((len(own),), aims[row].factor, device=own.device)
                    table[:, row] = peaks(own, factors).cpu().numpy()
            best.see(table, photos)
        return best

    def _batches(self, together: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Ids of photos of both splits, and the photos."""
        images = self._source.images
        photos = (*images.scoring, *images.held_out)
        batches = self._source.batches(photos, together)
        for start, batch in zip(range(0, len(photos), together), batches, strict=True):
            yield photos[start : start + together], batch

    def _kernel_means(self, full: TracedLayer) -> KernelMeans | None:
        """What dropped kernels leave behind, where circuits have mean ablation."""
        if self._header.ablations[0] != "mean":
            return None
        name = full.index.layer
        if name not in self._means:
            scoring = self._source.images.scoring
            batches = self._source.batches(scoring, self._together(full.network))
            self._means[name] = kernel_means(full, batches)
        return self._means[name]


def _step_of(network: Network, convolution: str) -> str:
    """The first step that applies a convolution."""
    return next(site.steps[0] for site in network.sites if site.name == convolution)
