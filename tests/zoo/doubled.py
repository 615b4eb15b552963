"""A layer traced in float32, computed in float64: tracing takes most of a trial's time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.engine.traced_layer import TracedLayer


def doubled(layer: TracedLayer) -> TracedLayer:
    """Gives the layer with every stored tensor and every dtype in float64."""
    network = layer.network
    steps = tuple(
        replace(
            step,
            args=_double(step.args),
            kwargs=_double(step.kwargs),
            dtype=_double(step.dtype),
        )
        for step in network.steps
    )
    sites = tuple(replace(site, weight=site.weight.double()) for site in network.sites)
    by_name = {step.name: step for step in steps}
    return replace(layer, network=replace(network, steps=steps, sites=sites, by_name=by_name))


def _double(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.double() if value.is_floating_point() else value
    if value is torch.float32:
        return torch.float64
    if isinstance(value, (tuple, list)):
        return type(value)(_double(item) for item in value)
    if isinstance(value, Mapping):
        return {key: _double(item) for key, item in value.items()}
    return value
