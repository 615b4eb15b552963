"""A circuit, the model it is of and any images -> how faithful it is on them."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.faithfulness import FullResponse, over_images
from circuit_atlas.jobs.circuits.kernel_means import KernelMeans, kernel_means
from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.circuits.responses import responses_of
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.model_copy import copy_model
from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.circuit.ablation import keep_only
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.compute.circuit_layer import (
    axis_mask,
    fitting_images,
    image_shape,
    one_unit,
    opened_layer,
    require_weights,
)
from circuit_atlas.service.compute.image_tensor import image_tensor
from circuit_atlas.service.compute.torch_settings import worker_settings
from circuit_atlas.storage_schema.errors import NonFiniteError, QueryError

if TYPE_CHECKING:
    from circuit_atlas.service.circuit.circuit import Circuit

_BATCH = 16
_AT = "abs@"


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation:
    """Says how well a circuit preserves a unit's response on some images. The measures are those
    of `Unit.faithfulness`, under the same names.

    Attributes:
        title: of the circuit.
        ablation: what dropped kernels were: `zero` or `mean`.
        pearson: Pearson r of the unit's maps in the circuit and in the whole network, over all
            positions of all images; None where either is constant.
        pearson_images: Pearson r of the responses to the images; None where either is constant.
        firing: share of the positions where the unit's output is above 0 in the circuit.
        firing_full: the same in the whole network.
        responses: r(y) of each image in the circuit. Shape: (images,).
        responses_full: the same in the whole network. Shape: (images,).
        class_scores: what the model gives for each image when every other kernel of the circuit's
            convolutions is zero; None where that is no row of scores, and with mean ablation.
            Shape: (images, classes).
        class_scores_full: what the whole network gives. Shape: (images, classes).
    """

    title: str
    ablation: str
    pearson: float | None
    pearson_images: float | None
    firing: float
    firing_full: float
    responses: NDArray[np.float64]
    responses_full: NDArray[np.float64]
    class_scores: NDArray[np.float32] | None
    class_scores_full: NDArray[np.float32] | None

    def table(self) -> AtlasTable:
        """Return one row for each image: response, in the circuit; response_full, in the whole
        network; and where the model gives class scores, class and class_full, those of the largest
        one."""
        columns = {"response": self.responses, "response_full": self.responses_full}
        if self.class_scores is not None and self.class_scores_full is not None:
            columns["class"] = self.class_scores.argmax(axis=1)
            columns["class_full"] = self.class_scores_full.argmax(axis=1)
        return AtlasTable(pa.table(columns))

    def __repr__(self) -> str:
        return (
            f"<Evaluation of {self.title} on {len(self.responses)} images, {self.ablation} "
            f"ablation: r {_r(self.pearson)}, r of the response {_r(self.pearson_images)}, fires "
            f"at {self.firing:.1%} of the positions, {self.firing_full:.1%} in the whole network>"
        )

    def _repr_html_(self) -> str:
        shown = html_table(self.table().to_arrow())
        return f"<p>{escape(repr(self)[1:-1])}</p>{shown}"


def evaluate(
    circuit: Circuit, model: nn.Module, images: Tensor, *, ablation: str | None
) -> Evaluation:
    """Measure what `Circuit.evaluate` gives, whose arguments these are."""
    origin = one_unit(circuit)
    chosen = arguments.ablation(origin.reader, ablation)
    with worker_settings(), torch.no_grad():
        loaded = copy_model(model)
        require_weights(circuit, loaded)
        shown = fitting_images(images, image_shape(origin, loaded))
        layer = opened_layer(origin, loaded)
        number, network = origin.unit.number, layer.network
        shown = shown.to(network.sites[-1].weight)
        means = _means(layer, origin) if chosen == "mean" else None
        weights = pruned_weights(layer, number, axis_mask(circuit, origin), means)
        target, name = layer.targets([number]), network.target.name
        full, masked = [], []
        for batch in shown.split(_BATCH):
            full.append(target.maps(network.forward(batch)[name])[0].cpu().numpy())
            replaced = network.forward(batch, replaced=weights)[name]
            masked.append(target.maps(replaced)[0].cpu().numpy())
        whole, own = np.concatenate(full), np.concatenate(masked)
        if not (np.isfinite(whole).all() and np.isfinite(own).all()):
            raise NonFiniteError(
                f"{origin.name} gives NaN or infinity on these images: give other images"
            )
        pruned = _pruned(circuit, loaded.module) if chosen == "zero" else None
        scores = None if pruned is None else _class_scores(pruned, shown)
        scores_full = None if scores is None else _class_scores(loaded.module, shown)
    response = _response(origin.reader.header.response)
    measures = FullResponse(whole).compare(own)
    in_circuit = responses_of(own, response).astype(np.float64)
    in_network = responses_of(whole, response).astype(np.float64)
    return Evaluation(
        title=circuit.title,
        ablation=chosen,
        pearson=measures.pearson,
        pearson_images=over_images(in_circuit, in_network),
        firing=measures.firing,
        firing_full=measures.firing_full,
        responses=in_circuit,
        responses_full=in_network,
        class_scores=scores,
        class_scores_full=scores_full,
    )


def _means(layer: TracedLayer, origin: Origin) -> KernelMeans:
    """Every kernel's mean over the unit's scoring images, which the atlas has."""
    rows = origin.reader.responses(origin.commit).select(["image", "split"]).to_pylist()
    scoring = [row["image"] for row in rows if row["split"] == "scoring"]
    images = image_tensor(origin.reader, scoring).to(layer.network.sites[-1].weight)
    return kernel_means(layer, images.split(1))


def _pruned(circuit: Circuit, model: nn.Module) -> nn.Module | None:
    """The model with the circuit's kernels alone; None where that cannot be a copy of it."""
    try:
        return keep_only(model, circuit.index.convolutions, circuit.grids())
    except QueryError:  # a weight that is computed or shared: the layer's engine can do it
        return None


def _class_scores(model: nn.Module, images: Tensor) -> NDArray[np.float32] | None:
    """What a model gives for images, where that is a row of numbers each."""
    rows = [model(batch) for batch in images.split(_BATCH)]
    if not all(isinstance(row, Tensor) and row.dim() == 2 for row in rows):
        return None
    scores: NDArray[np.float32] = torch.cat(rows).float().cpu().numpy()
    return scores


def _response(text: str) -> Response:
    """The number explained, as a header names it."""
    if text.startswith(_AT):
        row, column = map(int, text.removeprefix(_AT).split(","))
        return row, column
    return "max" if text == "max" else "sum_abs"


def _r(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
