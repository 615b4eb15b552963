"""What is stored about a layer's network: wiring, weights, and crops of its channels."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.wiring import wiring
from circuit_atlas.storage_schema.network import NetworkRecord


def network_record(layer: TracedLayer, channels: pa.Table) -> NetworkRecord:
    """Describes the layer's network; `channels` is `network_tables.CHANNELS`."""
    return NetworkRecord(
        wiring=wiring(layer.network, layer.upstream),
        weights=tuple(
            site.weight.detach().cpu().numpy().astype(np.float32) for _, _, site in layer.pieces()
        ),
        channels=channels,
    )
