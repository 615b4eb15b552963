"""A circuit and the model it is of -> a small network of its own, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.extraction.cost import multiply_adds, parameters, seconds
from circuit_atlas.jobs.extraction.small_network import SmallNetwork, small_network
from circuit_atlas.jobs.network.convolution import ConvWeights
from circuit_atlas.jobs.network.load import LoadedModel
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.compute.circuit_layer import (
    axis_mask,
    fitting_images,
    image_shape,
    one_unit,
    opened_layer,
    require_weights,
)
from circuit_atlas.service.compute.extracted_circuit import ExtractedCircuit
from circuit_atlas.service.compute.receipt import Receipt
from circuit_atlas.service.compute.torch_settings import worker_settings
from circuit_atlas.storage_schema.errors import NonFiniteError, QueryError
from circuit_atlas.storage_schema.wording import nearest

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
    origin = one_unit(circuit)
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
    require_weights(circuit, loaded)
    shape = image_shape(origin, loaded)
    noise = torch.randn((_NOISE, *shape), generator=torch.Generator().manual_seed(0))
    shown = noise if images is None else fitting_images(images, shape)
    layer = opened_layer(origin, loaded)
    number = origin.unit.number
    like = layer.network.sites[-1].weight
    shown = shown.to(like)
    with torch.no_grad():
        means: KernelMeans | None = None
        if ablation == "mean":
            means = kernel_means(layer, shown.split(1))
        mask = axis_mask(circuit, origin)
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
