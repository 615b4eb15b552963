"""A layer whose images change each other is refused."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError


class Mixing(nn.Module):
    """Takes an image's difference to the mean of its batch, and something else before."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Conv2d(3, 2, 3)
        self.after = nn.Conv2d(2, 2, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.before(x)
        z: Tensor = self.after(y - y.mean(0, keepdim=True))
        return z


def test_a_layer_that_mixes_the_images_of_a_batch_is_refused():
    graph = ModelGraph(Mixing().eval(), (3, 8, 8))
    with pytest.raises(ModelError, match=r"'after'.*response depends on the others of its batch"):
        graph.network("after")
    assert graph.network("before").layer == "before"


class Unsteady(Mixing):
    """Divides by the spread of the batch, which is NaN for one image."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.after(self.before(x) / x.std(0).mean())
        return y


def test_mixing_that_gives_nan_for_one_image_is_refused():
    with pytest.raises(ModelError, match="depends on the others of its batch"):
        ModelGraph(Unsteady().eval(), (3, 8, 8)).network("after")
