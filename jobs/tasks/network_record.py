"""What is stored about a layer's network: wiring, weights, and crops of its channels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.wiring import wiring
from circuit_atlas.jobs.tasks.crops import channel_crops
from circuit_atlas.storage_schema.network import NetworkRecord


def network_record(
    layer: TracedLayer, images: Sequence[int], batches: Iterable[Tensor]
) -> NetworkRecord:
    """Describes the layer's network, in one forward pass over the scoring images.

    Args:
        layer: the layer.
        images: ids of the scoring images.
        batches: these images in the same order, (batch, channels, height, width) at a time.
    """
    return NetworkRecord(
        wiring=wiring(layer.network, layer.upstream),
        weights=tuple(
            site.weight.detach().cpu().numpy().astype(np.float32) for _, _, site in layer.pieces()
        ),
        channels=channel_crops(layer, images, batches),
    )
