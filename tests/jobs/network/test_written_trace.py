"""Traces that are written down give other processes the same networks, without their weights."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from circuit_atlas.jobs.network import export
from circuit_atlas.jobs.network.export import Trace, trace
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError

SHAPE = (3, 12, 12)


class Block(nn.Module):
    """Branches, a buffer, a constant, a module that runs twice, a shared weight and two results."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(True))
        self.again = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x * torch.tensor([1.0, 2.0, 3.0])[:, None, None])
        y = torch.cat([x, self.again(self.again(x))], 1)
        return self.head(self.pool(y).flatten(1)), {"map": y}


class Stops(Block):
    """Its code cannot be followed beyond `again`."""

    def forward(self, x: Tensor) -> Any:
        y = self.again(self.stem(x))
        if float(y.sum()) > 0:
            return y
        return -y


def in_another_process(module: nn.Module) -> ModelGraph:
    written = trace(module, SHAPE).to_bytes()
    assert written is not None
    return ModelGraph(module, SHAPE, Trace.of_bytes(pickle.loads(pickle.dumps(written))))


@pytest.mark.parametrize("layer", ["stem.0", "again@0", "again", "head"])
def test_the_network_is_the_same(layer: str) -> None:
    module = Block().eval().requires_grad_(False)
    graph, other = ModelGraph(module, SHAPE), in_another_process(module)
    assert other.layers == graph.layers
    assert other.origins(layer) == graph.origins(layer)
    images = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(1))
    for activation in ("pre", "post"):
        found, wanted = (each.network(layer, activation) for each in (other, graph))
        assert [s.name for s in found.steps] == [s.name for s in wanted.steps]
        assert [(s.name, s.groups, s.depth) for s in found.sites] == [
            (s.name, s.groups, s.depth) for s in wanted.sites
        ]
        # The weights are the module's own, not copies.
        for one, two in zip(found.sites, wanted.sites, strict=True):
            assert one.weight.data_ptr() == two.weight.data_ptr()
        assert_close(found.output(images), wanted.output(images), rtol=0, atol=0)


def test_weights_are_not_written() -> None:
    small, large = (nn.Sequential(nn.Conv2d(3, n, 3)).eval() for n in (8, 4096))
    few, many = (len(trace(each, SHAPE).to_bytes() or b"") for each in (small, large))
    assert many < few + 1000


def test_what_stops_the_trace_is_known_there_too() -> None:
    module = Stops().eval().requires_grad_(False)
    graph, other = ModelGraph(module, SHAPE), in_another_process(module)
    assert other.remarks == graph.remarks != ()
    with pytest.raises(ModelError, match="not in the part of the model that can be traced"):
        other.network("head")


def test_what_torch_cannot_write_is_traced_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("no such argument can be written")

    monkeypatch.setattr(export.torch.export, "save", fail)
    assert trace(Block().eval(), SHAPE).to_bytes() is None
