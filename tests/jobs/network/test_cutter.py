"""Steps and convolutions that a layer's nodes become."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError


def test_batch_statistics_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2, track_running_stats=False)).eval()
    with pytest.raises(ModelError, match="has no running statistics"):
        ModelGraph(model, (3, 8, 8)).network("1")


class Twice(nn.Module):
    """Runs one convolution twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Conv2d(3, 3, 3, padding=1)
        self.last = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.relu(self.shared(torch.relu(self.shared(x)))))
        return y


def test_a_convolution_that_runs_twice_is_one_convolution():
    layer = open_layer(ModelGraph(Twice().eval(), (3, 8, 8)), "last")
    assert [(c.name, c.size) for c in layer.index.index.convolutions] == [
        ("shared", 9),
        ("last", 3),
    ]
    assert len(layer.network.sites[0].steps) == 2
