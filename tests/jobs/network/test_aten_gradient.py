"""Gradients through single operations, held against a network of that operation alone."""

from __future__ import annotations

import torch
from torch import nn

from circuit_atlas.jobs.network.aten_gradient import aten_gradient
from circuit_atlas.jobs.network.model_graph import ModelGraph


class Odd(nn.Module):
    """An operation that mixes the positions of a map, after a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Softmax(dim=-1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(self.first(x))
        return y


def test_many_gradients_over_one_image():
    network = ModelGraph(Odd().double().eval().requires_grad_(False), (3, 6, 5)).network("last")
    generator = torch.Generator().manual_seed(0)
    image = torch.randn((1, 3, 6, 5), generator=generator, dtype=torch.float64)
    gradients = torch.randn((4, 4, 6, 5), generator=generator, dtype=torch.float64)
    values = network.forward(image)
    step = network.target
    ((name, found),) = aten_gradient(network, step, values, gradients)
    assert (step.op, name) == ("softmax", step.inputs[0])
    for gradient, wanted_by in zip(found, gradients, strict=True):
        value = values[name].clone().requires_grad_()
        (wanted,) = torch.autograd.grad(value.softmax(-1), value, wanted_by[None])
        torch.testing.assert_close(gradient[None], wanted, rtol=1e-12, atol=1e-14)
