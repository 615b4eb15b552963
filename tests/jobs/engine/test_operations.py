"""Every operation that convolutional networks are made of, held against autograd."""

from __future__ import annotations

import copy
from functools import cache

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.engine.gradient_rules import BackwardWalk, is_rectified, rule_of
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.extraction.small_network import small_network
from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.step import Step
from circuit_atlas.jobs.scores.criteria import CONTRIBUTION
from circuit_atlas.jobs.scores.over_images import score_images
from tests.oracles import calls as oracle
from tests.oracles.operations import CHANNELS, OPERATIONS, SIDE, Operation

# Of the largest score, both sides in float64, what is stored in float32.
TOLERANCE = 1e-6
# Of the largest gradient, both sides in float64.
EXACT = 1e-10
UNIT = 1
LAYOUTS = (torch.channels_last, torch.contiguous_format)


class Branch(nn.Module):
    """An operation, and a convolution of what it gives."""

    def __init__(self, operation: Operation) -> None:
        super().__init__()
        self.operation = operation
        channels = operation(torch.zeros(1, CHANNELS, SIDE, SIDE, dtype=torch.float64)).shape[1]
        self.target = nn.Conv2d(channels, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.target(self.operation(x))
        return y


class Every(nn.Module):
    """One convolution, and each operation on what it gives: so one trace serves all."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.branches = nn.ModuleList(Branch(OPERATIONS[name]) for name in names)

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x)
        return [branch(x) for branch in self.branches]


NAMES = list(OPERATIONS)


@cache
def every() -> tuple[Every, ModelGraph]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = Every(NAMES).double().eval().requires_grad_(False)
    return module, ModelGraph(module, (3, SIDE, SIDE))


@cache
def opened(name: str) -> TracedLayer:
    _, graph = every()
    return open_layer(graph, f"branches.{NAMES.index(name)}.target")


def alone(name: str) -> nn.Module:
    """The stem and one branch."""
    module, _ = every()
    branch = module.branches[NAMES.index(name)]
    return nn.Sequential(module.stem, branch)


def image() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn((1, 3, SIDE, SIDE), generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", NAMES)
def test_scores_and_reach(name: str) -> None:
    layer = opened(name)
    found = score_images(
        layer,
        [UNIT],
        [image()],
        keep={UNIT: [0]},
        criteria=["actgrad", CONTRIBUTION],
        response="sum_abs",
        block=1,
    )
    module = alone(name)
    by_call = oracle.scores(module, image()[0], "1.target", UNIT)
    stem, target = by_call["0", 0], by_call["1.target", 0]
    reached, _ = oracle.reached(
        module, image(), "1.target", UNIT, [(("0", 0),), (("1.target", 0),)]
    )
    for criterion in ("actgrad", CONTRIBUTION):
        arrays = [getattr(call, criterion) for call in (stem, target)]
        expected = np.concatenate([arrays[0].ravel(), arrays[1][UNIT]])
        on_axis = found[criterion].mean[0]
        largest = np.abs(expected).max()
        np.testing.assert_allclose(
            np.nan_to_num(on_axis), expected, rtol=0, atol=TOLERANCE * largest
        )
    np.testing.assert_array_equal(
        layer.reachable(UNIT)[: reached.size].reshape(reached.shape), reached
    )


@pytest.mark.parametrize("name", NAMES)
def test_an_extracted_circuit_in_which_two_channels_are_constants(name: str) -> None:
    layer = opened(name)
    generator = np.random.default_rng(1)
    stem = torch.from_numpy(generator.random((CHANNELS, 3)) < 0.5)
    stem[2:4] = False
    row = torch.from_numpy(generator.random(layer.upstream.index.size - stem.numel()) < 0.5)
    mask = torch.cat([stem.flatten(), row]).numpy()
    weights = pruned_weights(layer, UNIT, mask, None)
    small = small_network(layer.network, weights, layer.reads(UNIT), layer.targets([UNIT]))
    masked = copy.deepcopy(alone(name))
    masked[0].weight *= stem[:, :, None, None]
    masked[1].target.weight[UNIT] *= row[:, None, None]
    wanted = masked(image())[:, UNIT]
    largest = float(wanted.abs().max())
    torch.testing.assert_close(small.module(image()), wanted, rtol=0, atol=EXACT * largest)


def laid_out(value: Tensor, layout: torch.memory_format) -> Tensor:
    return value.contiguous(memory_format=layout) if value.dim() == 4 else value.contiguous()


def by_autograd(
    network: Network, step: Step, values: dict[str, Tensor], gradient: Tensor
) -> dict[str, Tensor]:
    """The gradient by each input of a step, in the layout that autograd is used with most."""
    with torch.enable_grad():
        leaves = {
            name: values[name].detach().contiguous().requires_grad_()
            for name in step.inputs
            if values[name].is_floating_point()
        }
        result = step.run({**values, **network.sizes.at(1, network.image), **leaves})
    if not result.requires_grad:
        return {}
    gradients = torch.autograd.grad(
        result, list(leaves.values()), gradient.contiguous(), allow_unused=True
    )
    found = zip(leaves, gradients, strict=True)
    return {name: gradient for name, gradient in found if gradient is not None}


def by_rule(
    network: Network, step: Step, values: dict[str, Tensor], gradient: Tensor
) -> dict[str, Tensor]:
    """The same by the engine's rule: parts of a concatenation put together again."""
    walk = BackwardWalk(Forward(network, values), {})
    found: dict[str, Tensor] = {}
    for each in rule_of(network, step)(walk, step, gradient[None] if step.folded else gradient):
        found[each.name] = found.get(each.name, 0) + each.gradient
    for name in step.inputs:
        source = network.by_name.get(name)
        if name not in found and source is not None and source.op == "cat":
            found[name] = torch.cat([found[part.name] for part in source.args[0]], 1)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_each_step_in_both_memory_layouts(name: str) -> None:
    network = opened(name).network
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        values = network.forward(image())
        for step in network.steps:
            types = {network.dtype(name) for name in (*step.inputs, step.name)}
            if not step.differentiable or any(each.is_complex for each in types):
                continue
            result = values[step.name]
            gradient = torch.randn(result.shape, generator=generator, dtype=result.dtype)
            wanted = by_autograd(network, step, values, gradient)
            if step.op == "max_pool2d" and is_rectified(network, step.inputs[0]):
                # Its rule passes the gate of the ReLU before it as well.
                wanted = {n: each * (values[n] > 0) for n, each in wanted.items()}
            for layout in LAYOUTS:
                arranged = {n: laid_out(value, layout) for n, value in values.items()}
                found = by_rule(network, step, arranged, laid_out(gradient, layout))
                for n, expected in wanted.items():
                    atol = EXACT * float(expected.abs().max())
                    by_input = found[n].reshape(expected.shape)
                    torch.testing.assert_close(by_input, expected, rtol=0, atol=atol)
