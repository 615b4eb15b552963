"""A circuit and the model it is of -> a small network of its own, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.extraction.cost import multiply_adds, parameters, seconds
from circuit_atlas.jobs.extraction.small_network import SmallNetwork, small_network
from circuit_atlas.jobs.images.tensor_images import checked_images
from circuit_atlas.jobs.network.convolution import ConvWeights
from circuit_atlas.jobs.network.input_channels import input_channels
from circuit_atlas.jobs.network.load import LoadedModel
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.compute.extracted_circuit import ExtractedCircuit
from circuit_atlas.service.compute.receipt import Receipt
from circuit_atlas.service.compute.torch_settings import worker_settings
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ImageError, NonFiniteError, QueryError
from circuit_atlas.storage_schema.wording import listed, nearest

if TYPE_CHECKING:
    from circuit_atlas.service.circuit.circuit import Circuit

_ABLATIONS = ("zero", "mean")
# Drawn where none are given.
_NOISE = 8
# Timed together.
_BATCH = 8


def extract(
    circuit: Circuit, model: nn.Module, *, ablation: str, images: Tensor | None
) -> ExtractedCircuit:
    """Build the network that `Circuit.extract` gives, whose arguments these are."""
    origin = _one_unit(circuit)
    if ablation not in _ABLATIONS:
        raise QueryError(
            f"ablation={ablation!r}: {nearest(ablation, _ABLATIONS, what='ablations')}"
        )
    if ablation == "mean" and images is None:
        raise QueryError(
            "mean ablation puts each dropped kernel's mean over the scoring images in its place, "
            "and an atlas does not store them: give those images, images="
        )
    with worker_settings():
        loaded = copy_model(model)
        return _extracted(circuit, origin, loaded, ablation=ablation, images=images)


def _extracted(
    circuit: Circuit,
    origin: Origin,
    loaded: LoadedModel,
    *,
    ablation: str,
    images: Tensor | None,
) -> ExtractedCircuit:
    """The circuit of a unit extracted from a copy of the model."""
    if loaded.sha256 != circuit.weights_sha256:
        raise QueryError(
            f"this model's weights ({loaded.sha256[:12]}) are not those that {circuit.title} is "
            f"of ({circuit.weights_sha256[:12]}): give {circuit.model} with the weights that the "
            "atlas was built from"
        )
    header = origin.reader.header
    channels = input_channels(loaded.module) or 3
    shape = (channels, header.input_height, header.input_width)
    noise = torch.randn((_NOISE, *shape), generator=torch.Generator().manual_seed(0))
    shown = noise if images is None else _images(images, shape)
    layer = _layer(origin, ModelGraph(loaded.module.requires_grad_(False), shape))
    number = origin.unit.number
    like = layer.network.sites[-1].weight
    shown = shown.to(like)
    with torch.no_grad():
        means: KernelMeans | None = None
        if ablation == "mean":
            means = kernel_means(layer, shown.split(1))
        mask = _mask(circuit, origin)
        weights = pruned_weights(layer, number, mask, means)
        read, target = layer.reads(number), layer.targets([number])
        small = small_network(layer.network, weights, read, target)
        every = np.ones(layer.index.channels, dtype=np.bool_)
        whole = small_network(layer.network, {}, every, target)
        difference, largest = _difference(
            layer, number, weights, small, shown, noise=images is None
        )
        batch = shown[:_BATCH]
        taken, taken_whole = seconds([small.module, whole.module], batch)
    receipt = Receipt(
        layer=origin.layer.layer,
        unit=origin.unit.name,
        model=circuit.model,
        weights_sha256=circuit.weights_sha256,
        ablation=ablation,
        kernels=int(mask.sum()),
        kernels_whole=int(layer.reachable(number).sum()),
        kernels_run=small.kernels,
        parameters=parameters(small.module),
        parameters_whole=parameters(whole.module),
        multiply_adds=multiply_adds(small.module, batch[:1]),
        multiply_adds_whole=multiply_adds(whole.module, batch[:1]),
        milliseconds=1e3 * taken,
        milliseconds_whole=1e3 * taken_whole,
        batch=len(batch),
        threads=torch.get_num_threads(),
        device=str(like.device),
        difference=difference,
        response_range=largest,
        images=len(shown),
        noise=images is None,
        image_shape=shape,
        fixed=small.fixed,
    )
    return ExtractedCircuit(small.module, receipt)


def _one_unit(circuit: Circuit) -> Origin:
    """The unit that the circuit is of; QueryError where it is of none or of several, or of one
    whose response is taken from two places."""
    units = {(each.layer.layer, each.unit.number): each for each in circuit.origins}
    activations = {each.layer.activation for each in circuit.origins}
    if len(units) != 1:
        names = listed([each.name for each in units.values()]) if units else "no unit"
        raise QueryError(
            f"{circuit.title} is of {names}: extract a circuit of one unit, or a combination of "
            "circuits of one"
        )
    if len(activations) > 1:
        raise QueryError(
            f'{circuit.title} is of two atlases, one with activation = "post" and one with '
            '"pre", so what it computes is not one thing: extract circuits of one of them'
        )
    return next(iter(units.values()))


def _layer(origin: Origin, graph: ModelGraph) -> TracedLayer:
    """The unit's layer, opened as the atlas had it; QueryError where the model has another."""
    reader, index = origin.reader, origin.layer

    def directions(channels: int) -> Directions:
        if index.directions is not None:
            return reader.directions(index.layer)
        vectors = {unit.name: unit.direction for unit in index.units if unit.direction is not None}
        return Directions.of_spec(vectors, channels)

    activation: Activation = "post" if index.activation == "post" else "pre"
    layer = open_layer(graph, index.layer, directions, activation=activation)
    if layer.upstream.index != index.index:
        raise QueryError(
            f"other convolutions lead to layer {index.layer!r} of this model than to that of the "
            f"atlas: give the model as it was when the atlas was built, {reader.header.model}"
        )
    return layer


def _images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    values = checked_images(images, "images")
    if tuple(values.shape[1:]) != shape:
        raise ImageError(
            f"images holds images of shape {tuple(values.shape[1:])}: the atlas was built on "
            f"images of shape {shape}, so give such"
        )
    return values


def _mask(circuit: Circuit, origin: Origin) -> NDArray[np.bool_]:
    """The circuit on the unit's kernel axis: (kernels,)."""
    offsets = np.asarray(circuit.index.full_offsets, np.int64)
    ordinal = np.searchsorted(offsets[1:], circuit.ids, side="right")
    positions = origin.positions(circuit.index, ordinal, circuit.ids - offsets[ordinal])
    mask = np.zeros(origin.layer.index.size, np.bool_)
    mask[positions[positions >= 0]] = True
    return mask


def _difference(
    layer: TracedLayer,
    number: int,
    weights: Mapping[str, ConvWeights],
    small: SmallNetwork,
    images: Tensor,
    *,
    noise: bool,
) -> tuple[float, float]:
    """The largest difference from the masked network, and the range of its output with 0."""
    name, target = layer.network.target.name, layer.targets([number])
    difference, least, most = 0.0, 0.0, 0.0
    for batch in images.split(_BATCH):
        masked = target.maps(layer.network.forward(batch, replaced=weights)[name])[0]
        if not masked.isfinite().all():
            raise NonFiniteError(
                f"the circuit gives NaN or infinity on {'noise' if noise else 'these images'}, so "
                "nothing can be said of how far off it is: give other images, images="
            )
        difference = max(difference, float((small.module(batch) - masked).abs().max()))
        least, most = min(least, float(masked.min())), max(most, float(masked.max()))
    return difference, most - least
