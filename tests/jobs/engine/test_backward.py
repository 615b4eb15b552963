"""The gradients that reach each convolution, held against autograd through the whole network."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from circuit_atlas.jobs.engine.backward import backward, generic_operations
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.network.layer_network import Network
from tests.jobs.axis import double_images, open_double
from tests.oracles.networks import NAMED

UNITS = 3
# Of the largest gradient, both in float64: what remains is the order of sums.
TOLERANCE = 1e-10


def by_autograd(network: Network, image: Tensor, start: Tensor) -> dict[str, Tensor]:
    """The gradients (units, channels, h, w) by every convolution's result, by its step."""
    values = network.forward(image.requires_grad_())
    convolutions = {s.name: values[s.name] for s in network.steps if s.convolution is not None}
    rows = [
        torch.autograd.grad(
            values[network.target.name],
            list(convolutions.values()),
            unit[None],
            retain_graph=True,
            allow_unused=True,
        )
        for unit in start
    ]
    return {
        name: torch.cat([torch.zeros_like(value) if g is None else g for g in column])
        for (name, value), column in zip(convolutions.items(), zip(*rows, strict=True), strict=True)
    }


@pytest.mark.parametrize("name", NAMED)
def test_the_gradients_of_every_kind_of_network(name):
    kind = NAMED[name]()
    network = open_double(kind, kind.targets[-1]).network
    image = double_images(kind, 1)
    generator = torch.Generator().manual_seed(0)
    start = torch.randn((UNITS, *network.target.shape), generator=generator, dtype=torch.float64)
    wanted = by_autograd(network, image.clone(), start)
    with torch.no_grad():
        forward = Forward(network, network.forward(image))
        found = {
            each.step.name: each.output_gradient
            for each in backward(forward, {network.target.name: start})
        }
    scale = max(float(gradient.abs().max()) for gradient in wanted.values())
    assert network.target.name in found
    for step, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[step], rtol=0, atol=TOLERANCE * scale)
    assert all(not gradient.any() for step, gradient in wanted.items() if step not in found)


def test_operations_without_a_rule_are_named():
    """Their numbers are held against the oracles with all others'."""
    assert generic_operations(open_double(NAMED["attended"](), "last").network) == ("softmax",)
    for name in ("branched", "residual", "gated", "shuffled"):
        network = NAMED[name]()
        assert generic_operations(open_double(network, network.targets[-1]).network) == ()
