"""The networks, layers and images that are measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn
from torchvision.models import alexnet, resnet50

from circuit_atlas.jobs.demo import squeezenet1_1
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service.commands.demo import LAYER, demo_spec
from tests.benchmarks.slow import Slow, open_slow


@dataclass(frozen=True)
class BenchmarkSubject:
    """A layer of a network, and images.

    Attributes:
        name: as in the table.
        layer_name: the layer's path.
        make: gives the network.
        pictures: gives images (count, 3, 224, 224), normalised.
    """

    name: str
    layer_name: str
    make: Callable[[], nn.Module]
    pictures: Callable[[int], Tensor]

    @cached_property
    def module(self) -> nn.Module:
        """In evaluation mode, without gradients."""
        torch.manual_seed(0)
        return self.make().eval().requires_grad_(False)

    @cached_property
    def layer(self) -> TracedLayer:
        """Opened for the engine."""
        return open_layer(ModelGraph(self.module, (3, 224, 224)), self.layer_name)

    @cached_property
    def slow(self) -> Slow:
        """Opened for the slow reference."""
        return open_slow(self.module, self.layer_name, self.pictures(1))


def _photos(count: int) -> Tensor:
    images = OpenedSpec(demo_spec()).images
    return images.batch([n % 20 for n in range(count)])


def _noise(count: int) -> Tensor:
    return torch.randn((count, 3, 224, 224), generator=torch.Generator().manual_seed(0))


DEMO = BenchmarkSubject(f"SqueezeNet {LAYER}", LAYER, squeezenet1_1, _photos)
ALEXNET = BenchmarkSubject(
    "AlexNet features.8", "features.8", lambda: alexnet(weights=None), _noise
)
RESNET = BenchmarkSubject(
    "ResNet-50 layer3.5.conv2", "layer3.5.conv2", lambda: resnet50(weights=None), _noise
)
