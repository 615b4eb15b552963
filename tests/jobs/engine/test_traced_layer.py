"""Layers that are opened, and what has no circuit."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ModelError


class Aside(nn.Module):
    """Four maps, and class scores."""

    def __init__(self) -> None:
        super().__init__()
        self.used = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.used(x).mean((2, 3)))
        return y


def test_directions_that_cannot_be_used():
    graph = ModelGraph(Aside().eval(), (3, 8, 8))
    for vector in ((1.0, 2.0), (0.0, 0.0, 0.0, 0.0), (1.0, float("nan"), 0.0, 0.0)):
        with pytest.raises(ModelError, match=r"direction 'odd'.*give 4 finite"):
            open_layer(graph, "used", partial(Directions.of_spec, {"odd": vector}))


def test_a_layer_before_any_convolution_has_no_circuit():
    model = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 2, 1)).eval()
    with pytest.raises(ModelError, match="no convolution with weights of its own"):
        open_layer(ModelGraph(model, (3, 8, 8)), "0")


def test_an_operation_without_a_gradient_is_refused_with_its_line():
    class Underivable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)
            self.out = nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.out(torch.special.zeta(self.conv(x).abs() + 2, 1.5))
            return y

    graph = ModelGraph(Underivable().eval().requires_grad_(False), (3, 8, 8))
    message = r"no gradient goes back through 'special_zeta' \(.*test_traced_layer.py:\d+\)"
    with pytest.raises(ModelError, match=message):
        open_layer(graph, "out")
