"""The visualizations of one task, ready to be made: networks of the right size, circuits, and how
images do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps, open_first_convolution
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.targets import Targets
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.layer_network import Network, Replaced
from circuit_atlas.jobs.network.receptive_field import receptive_fields
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.visualization.objective import (
    BestImages,
    Measure,
    Objective,
    measure_in_circuit,
    measure_in_network,
    peaks,
    weighted,
)
from circuit_atlas.jobs.visualization.variants import Variant
from circuit_atlas.storage_schema.errors import ModelError, NonFiniteError, SpecError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.wording import one_line

# A visualization holds what the unit sees about twice along each side, and few sizes are met: the
# model is traced anew for each.
_FIELDS = 2
_SIZE_STEP = 32
_SMALLEST = 64
# Maps of so many are about as large as a wide layer's.
_DIRECTIONS_TOGETHER = 256
# Results of all steps, their gradients, and what the libraries take on top.
_OVERHEAD = 3 * 4


@dataclass(frozen=True)
class VisualizationBatch:
    """Variants of units of one layer, or of channels of one convolution, with all that their
    visualizations are made from; a variant's row is its index.

    Attributes:
        variants: what is to be made.
        size: height and width of the visualizations.
        circuit_measures: the objective of each variant through a circuit; None for those of the
            whole network.
        network: the whole network, for images of that size.
        weights: (variants, channels), over its output.
        bias: (variants,), added to the weighted sum.
        best_images: for each variant, the objective of the image that does best by it, and its id.
        together: visualizations that go through the whole network at one time.
    """

    variants: tuple[Variant, ...]
    size: tuple[int, int]
    circuit_measures: tuple[Measure | None, ...]
    network: Network
    weights: Tensor
    bias: Tensor
    best_images: tuple[tuple[float, int], ...]
    together: int

    def objective(self, rows: Sequence[int]) -> Objective:
        """Gives the objective of the visualizations for the variants in those rows."""
        factors = torch.tensor(
            [self.variants[row].factor for row in rows], device=self.weights.device
        )
        measures: list[tuple[Sequence[int], Measure]] = []
        in_network = [n for n, row in enumerate(rows) if self.circuit_measures[row] is None]
        for start in range(0, len(in_network), self.together):
            part = in_network[start : start + self.together]
            chosen = [rows[n] for n in part]
            weights, bias = self.weights[chosen], self.bias[chosen]
            whole = measure_in_network(self.network, weights, factors[part], bias)
            measures.append((part, whole))
        for n, row in enumerate(rows):
            measure = self.circuit_measures[row]
            if measure is not None:
                measures.append(([n], measure))
        return Objective(measures, factors)

    def margin(self, row: int, response: float) -> float:
        """Says by how much a response is beyond that of every image, in the variant's direction."""
        return (response - self.best_images[row][0]) * self.variants[row].factor


class BatchOpener:
    """Opens batches; keeps traced networks and how images do between tasks."""

    def __init__(self, opened: OpenedSpec, header: AtlasHeader, *, budget_bytes: int) -> None:
        """Takes the model and images, what the atlas was built with, and the memory to use."""
        self._opened = opened
        self._header = header
        self._budget_bytes = budget_bytes
        self._alone = False
        self._best: dict[str, dict[tuple[str, float], BestImages]] = {}
        self._means: dict[str, KernelMeans] = {}

    def halve(self) -> bool:
        """Uses half of the memory from now on; says whether that helps."""
        self._budget_bytes //= 2
        return not self._alone

    def open(self, name: str, variants: Sequence[Variant], *, node: bool) -> VisualizationBatch:
        """Opens variants of units of a layer, or with `node` of channels of a convolution.

        Raises:
            SpecError: the model does not take images of the size that the spec asks for.
            NonFiniteError: a unit responds with a number to no image.
        """
        owner = self._owner(name) if node else name
        full = self._layer(owner)
        step = _step_of(full.network, name) if node else full.network.target.name
        layer, size = self._sized(full, self._size(full.network.up_to(step)))
        network = layer.network.up_to(step)
        best = self._best_in_network(full)
        numbers = [variant.key.unit for variant in variants]
        if node:
            channels = network.target.shape[0]
            weights = torch.zeros((len(variants), channels), device=self._opened.device)
            weights[range(len(variants)), numbers] = 1.0
            bias = torch.zeros(len(variants), device=self._opened.device)
        else:
            units = layer.targets(numbers)
            weights, bias = units.directions, units.bias
        best_images = []
        for variant in variants:
            by_unit, unit = best[name if node else "", variant.factor], variant.key.unit
            best_images.append((float(by_unit.values[unit]), int(by_unit.images[unit])))
        measures: list[Measure | None] = [None] * len(variants)
        for row, (measure, best_image) in self._circuits(full, layer, variants).items():
            measures[row], best_images[row] = measure, best_image
        for variant, (response, _) in zip(variants, best_images, strict=True):
            if not np.isfinite(response):
                of = "channel" if node else "unit"
                raise NonFiniteError(
                    f"{of} {variant.key.unit} of {name!r} responds with NaN or infinity to every "
                    "image; look at the weights and the preprocessing"
                )
        return VisualizationBatch(
            variants=tuple(variants),
            size=size,
            circuit_measures=tuple(measures),
            network=network,
            weights=weights,
            bias=bias,
            best_images=tuple(best_images),
            together=self._together(network),
        )

    def _layer(self, name: str, size: tuple[int, int] | None = None) -> TracedLayer:
        """Opens a layer as `OpenedSpec.layer` does, its directions before their ReLU."""
        layer = self._opened.layer(name, size)
        return replace(layer, directions=replace(layer.directions, activation="none"))

    def _owner(self, convolution: str) -> str:
        """Finds a layer of the spec that the convolution is upstream of."""
        for layer in self._opened.spec.layers:
            sites = self._layer(layer.name).network.sites
            if any(site.name == convolution for site in sites):
                return layer.name
        raise ModelError(f"no layer of the spec has the convolution {convolution!r} upstream")

    def _size(self, network: Network) -> tuple[int, int]:
        """Height and width of visualizations of what the network ends in."""
        height, width = self._opened.images.size
        side = self._opened.spec.features.size
        if side is not None:
            return side, side
        seen = 1
        for low, high in receptive_fields(network):
            middle = len(low) // 2
            seen = max(seen, int(high[middle] - low[middle]) + 1)
        side = max(_SMALLEST, -(-_FIELDS * seen // _SIZE_STEP) * _SIZE_STEP)
        return min(side, height), min(side, width)

    def _sized(
        self, full: TracedLayer, size: tuple[int, int]
    ) -> tuple[TracedLayer, tuple[int, int]]:
        """Traces the layer for images of a size; of the set's size where the model takes no other
        and the spec asks for none."""
        try:
            layer = self._layer(full.index.layer, size)
            if layer.upstream.index == full.upstream.index:
                return layer, size
            reason = "other kernels reach the layer then"
        except ModelError as error:
            reason = one_line(error)
        if self._opened.spec.features.size is not None:
            raise SpecError(
                f"features.size: the model does not take images of {size[0]} x {size[1]} "
                f"({reason}); leave size out"
            )
        return full, self._opened.images.size

    def _together(self, network: Network) -> int:
        values = sum(prod(step.shape) for step in network.steps)
        room = self._budget_bytes // max(1, _OVERHEAD * values)
        self._alone = room <= 1
        return max(1, min(self._opened.spec.run.batch_size, room))

    def _best_in_network(self, full: TracedLayer) -> dict[tuple[str, float], BestImages]:
        """The images of both splits that do best in the whole network, by name and factor: for the
        layer's units under "", positive and negative, and for the channels of its convolutions,
        positive."""
        name, network = full.index.layer, full.network
        if name in self._best:
            return self._best[name]
        steps = {site.name: site.steps[0] for site in network.sites}
        units = len(full.index.units)
        best = {(site.name, 1.0): BestImages(np.ones(len(site.weight))) for site in network.sites}
        best |= {("", factor): BestImages(np.full(units, factor)) for factor in (1.0, -1.0)}
        mixed = full.targets(range(full.index.channels, units))
        for images, batch in self._image_batches(self._together(network)):
            with torch.no_grad():
                values = network.forward(batch)
                output = values[network.target.name]
                for (site, factor), of_site in best.items():
                    pieces = (values[steps[site]],) if site else _unit_maps(output, mixed)
                    found = [peaks(maps, maps.new_full(maps.shape[:2], factor)) for maps in pieces]
                    of_site.see(torch.cat(found, 1).cpu().numpy(), images)
        self._best[name] = best
        return best

    def _circuits(
        self, full: TracedLayer, layer: TracedLayer, variants: Sequence[Variant]
    ) -> dict[int, tuple[Measure, tuple[float, int]]]:
        """By row, for each variant that has a circuit: its objective there, and how images do."""
        rows = [row for row, variant in enumerate(variants) if variant.mask is not None]
        if not rows:
            return {}
        means = self._kernel_means(full)
        best = self._best_in_circuits(full, [variants[row] for row in rows], means)
        # Variants of both signs share a mask, and so the weights.
        replaced: dict[int, Replaced] = {}
        by_row: dict[int, tuple[Measure, tuple[float, int]]] = {}
        for n, row in enumerate(rows):
            unit, mask = variants[row].key.unit, variants[row].mask
            if mask is not None and id(mask) not in replaced:
                replaced[id(mask)] = pruned_weights(layer, unit, mask, means)
            factors = torch.tensor([variants[row].factor], device=self._opened.device)
            measure = measure_in_circuit(layer, unit, replaced[id(mask)], factors)
            by_row[row] = measure, (float(best.values[n]), int(best.images[n]))
        return by_row

    def _best_in_circuits(
        self, full: TracedLayer, variants: Sequence[Variant], means: KernelMeans | None
    ) -> BestImages:
        """The image that does best in the circuit of each variant."""
        best = BestImages(np.array([variant.factor for variant in variants]))
        by_unit: dict[int, list[int]] = {}
        for row, variant in enumerate(variants):
            by_unit.setdefault(variant.key.unit, []).append(row)
        for images, batch in self._image_batches(self._together(full.network)):
            first = open_first_convolution(full, batch, means)
            table: NDArray[np.float32] = np.empty((len(images), len(variants)), np.float32)
            for number, rows in by_unit.items():
                masks = {id(variants[row].mask): variants[row].mask for row in rows}
                stacked = np.stack([mask for mask in masks.values() if mask is not None])
                by_mask = dict(
                    zip(
                        masks,
                        circuit_maps(full, number, stacked, batch, means=means, first=first),
                        strict=True,
                    )
                )
                for row in rows:
                    maps = by_mask[id(variants[row].mask)]
                    factors = torch.full((len(maps),), variants[row].factor, device=maps.device)
                    table[:, row] = peaks(maps, factors).cpu().numpy()
            best.see(table, images)
        return best

    def _image_batches(self, together: int) -> Iterator[tuple[tuple[int, ...], Tensor]]:
        """Ids of images of both splits, and the images."""
        images = (*self._opened.images.scoring, *self._opened.images.held_out)
        batches = self._opened.batches(images, together)
        for start, batch in zip(range(0, len(images), together), batches, strict=True):
            yield images[start : start + together], batch

    def _kernel_means(self, full: TracedLayer) -> KernelMeans | None:
        """What pruned kernels leave behind, where circuits have mean ablation."""
        if self._header.ablations[0] != "mean":
            return None
        name = full.index.layer
        if name not in self._means:
            scoring = self._opened.images.scoring
            batches = self._opened.batches(scoring, self._together(full.network))
            self._means[name] = kernel_means(full, batches)
        return self._means[name]


def _unit_maps(output: Tensor, directions: Targets) -> Iterator[Tensor]:
    """The maps of a layer's units, those of its directions in pieces, as they may be thousands:
    (images, units, h, w) each."""
    yield output
    finite = bool(output.isfinite().all())
    for start in range(0, len(directions), _DIRECTIONS_TOGETHER):
        part = directions.part(slice(start, start + _DIRECTIONS_TOGETHER))
        if finite:
            summed = torch.einsum("uc,nchw->nuhw", part.directions, output)
            yield summed + part.bias[:, None, None]
        else:  # a channel that overflows spoils no direction that does not read it
            pairs = zip(part.directions, part.bias, strict=True)
            yield torch.stack([weighted(output, w[None], b[None]) for w, b in pairs], 1)


def _step_of(network: Network, convolution: str) -> str:
    """The first step that applies a convolution."""
    return next(site.steps[0] for site in network.sites if site.name == convolution)
