"""A circuit and the model it is of, opened: the unit's layer, images, and the circuit's mask."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.images.tensor_images import checked_images
from circuit_atlas.jobs.network.input_channels import input_channels
from circuit_atlas.jobs.network.load import LoadedModel
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ImageError, QueryError
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    from circuit_atlas.service.circuit.circuit import Circuit


def one_unit(circuit: Circuit) -> Origin:
    """The unit that the circuit is of; QueryError where it is of none or of several, or of one
    whose response is taken from two places."""
    units = {(each.layer.layer, each.unit.number): each for each in circuit.origins}
    activations = {each.layer.activation for each in circuit.origins}
    if len(units) != 1:
        names = listed([each.name for each in units.values()]) if units else "no unit"
        raise QueryError(
            f"{circuit.title} is of {names}: give a circuit of one unit, or a combination of "
            "circuits of one"
        )
    if len(activations) > 1:
        raise QueryError(
            f'{circuit.title} is of two atlases, one with activation = "post" and one with '
            '"pre", so what it computes is not one thing: give circuits of one of them'
        )
    return next(iter(units.values()))


def require_weights(circuit: Circuit, loaded: LoadedModel) -> None:
    """Raise QueryError where a model's weights are not those that the circuit is of."""
    if loaded.sha256 != circuit.weights_sha256:
        raise QueryError(
            f"this model's weights ({loaded.sha256[:12]}) are not those that {circuit.title} is "
            f"of ({circuit.weights_sha256[:12]}): give {circuit.model} with the weights that the "
            "atlas was built from"
        )


def image_shape(origin: Origin, loaded: LoadedModel) -> tuple[int, int, int]:
    """Return channels, height and width of the images that the atlas was built on."""
    header = origin.reader.header
    channels = input_channels(loaded.module) or 3
    return channels, header.input_height, header.input_width


def opened_layer(origin: Origin, loaded: LoadedModel) -> TracedLayer:
    """The unit's layer, opened as the atlas had it; QueryError where the model has another."""
    reader, index = origin.reader, origin.layer
    graph = ModelGraph(loaded.module.requires_grad_(False), image_shape(origin, loaded))

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


def fitting_images(images: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Return images as they can be computed with; ImageError where they cannot, or are of another
    shape (channels, height, width)."""
    values = checked_images(images, "images")
    if tuple(values.shape[1:]) != shape:
        raise ImageError(
            f"images holds images of shape {tuple(values.shape[1:])}: the atlas was built on "
            f"images of shape {shape}, so give such"
        )
    return values


def axis_mask(circuit: Circuit, origin: Origin) -> NDArray[np.bool_]:
    """The circuit on the unit's kernel axis: (kernels,)."""
    offsets = np.asarray(circuit.index.full_offsets, np.int64)
    ordinal = np.searchsorted(offsets[1:], circuit.ids, side="right")
    positions = origin.positions(circuit.index, ordinal, circuit.ids - offsets[ordinal])
    mask = np.zeros(origin.layer.index.size, np.bool_)
    mask[positions[positions >= 0]] = True
    return mask
