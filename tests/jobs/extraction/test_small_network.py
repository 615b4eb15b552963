"""What is left of a network, what became of its constants, and for which images it runs."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache
from typing import TypeVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.jobs.circuits.pruned_weights import pruned_weights
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.extraction.constant_map import ConstantMap
from circuit_atlas.jobs.extraction.small_network import SmallNetwork, small_network
from circuit_atlas.jobs.network.model_graph import ModelGraph
from tests.jobs.axis import open_double
from tests.oracles.networks import planted

# Of the largest value, both in float64: what remains is the order of sums.
TOLERANCE = 1e-12
SIDE = 9

Masks = dict[str, NDArray[np.bool_]]
_Module = TypeVar("_Module", bound=nn.Module)


def drawn(module: _Module) -> _Module:
    """The module in float64, its parameters drawn anew."""
    generator = torch.Generator().manual_seed(0)
    for parameter in module.parameters():
        parameter.data.normal_(0.0, 0.5, generator=generator)
    return module.double().eval().requires_grad_(False)


def photos(count: int = 2, side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn((count, 3, side, side), generator=generator, dtype=torch.float64)


def masked(module: nn.Module, masks: Masks) -> nn.Module:
    """A copy with the kernels outside the masks at zero."""
    module = copy.deepcopy(module)
    for name, mask in masks.items():
        module.get_parameter(f"{name}.weight").mul_(torch.from_numpy(mask)[:, :, None, None])
    return module


def extracted(layer: TracedLayer, masks: Masks, unit: int = 0) -> SmallNetwork:
    """The network of a unit where the masks, (out, in / groups), name the kernels that are kept."""
    pieces = []
    rows = iter(layer.upstream.rows[unit])
    for _, convolution, _ in layer.pieces():
        mask = masks[convolution.name.rpartition(".")[2]]
        pieces.append((mask[next(rows)] if convolution.one_row else mask).ravel())
    weights = pruned_weights(layer, unit, np.concatenate(pieces), None)
    return small_network(layer.network, weights, layer.reads(unit), layer.targets([unit]))


def every(module: nn.Module) -> Masks:
    return {
        name: np.ones(tuple(part.weight.shape[:2]), dtype=np.bool_)
        for name, part in module.named_modules()
        if isinstance(part, nn.Conv2d)
    }


def assert_same(found: Tensor, wanted: Tensor) -> None:
    atol = TOLERANCE * float(wanted.abs().max())
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def convolutions(small: SmallNetwork) -> dict[str, tuple[int, int]]:
    """Output and input channels of each convolution that is left."""
    return {
        name.rpartition(".")[2]: (part.out_channels, part.in_channels)
        for name, part in small.module.named_modules()
        if isinstance(part, nn.Conv2d)
    }


class Between(nn.Module):
    """Two convolutions in a row, with something between them and after the first."""

    def __init__(self, between: Callable[[Tensor], Tensor], *, padding: int = 1) -> None:
        super().__init__()
        self.between = between
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 5, 3, stride=2, padding=padding, dilation=padding or 1)
        self.third = nn.Conv2d(5, 2, 3, padding="same")

    def forward(self, x: Tensor) -> Tensor:
        x = self.between(self.first(x))
        y: Tensor = self.third(self.between(self.second(x)))
        return y


BETWEEN: dict[str, Callable[[Tensor], Tensor]] = {
    "relu in place": torch.relu_,
    "sigmoid": torch.sigmoid,
    "hardswish": lambda x: functional.hardswish(x + 1, inplace=True),
    "elu": functional.elu,
    "max pool": lambda x: functional.max_pool2d(torch.sigmoid(x), 3, 1, 1),
    "average pool": lambda x: functional.avg_pool2d(torch.sigmoid(x), 3, 1),
    "average pool of the padding": lambda x: functional.avg_pool2d(torch.sigmoid(x), 3, 1, 1),
    "average pool without it": lambda x: functional.avg_pool2d(
        torch.sigmoid(x), 3, 2, 1, ceil_mode=True, count_include_pad=False
    ),
    "gate": lambda x: x * torch.sigmoid(x.mean((2, 3), keepdim=True)),
    "padded": lambda x: functional.pad(x, (1, 0, 2, 1), value=0.5),
    "enlarged": lambda x: functional.interpolate(x, scale_factor=2, mode="bilinear"),
}


CASES = [(name, 1) for name in BETWEEN] + [
    (name, 0)
    for name in ("sigmoid", "max pool", "average pool of the padding", "padded", "enlarged")
]
CASES += [("sigmoid", 2), ("elu", 2)]


class Every(nn.Module):
    """All of them, so that one trace serves all."""

    def __init__(self) -> None:
        super().__init__()
        cases = (Between(BETWEEN[name], padding=padding) for name, padding in CASES)
        self.cases = nn.ModuleList(cases)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [case(x.clone()) for case in self.cases]


@cache
def traced() -> tuple[Every, ModelGraph]:
    module = drawn(Every())
    return module, ModelGraph(module, (3, SIDE, SIDE))


@cache
def between(name: str, padding: int) -> tuple[nn.Module, TracedLayer]:
    """The module, and its last convolution."""
    module, graph = traced()
    number = CASES.index((name, padding))
    return module.cases[number], open_layer(graph, f"cases.{number}.third")


def some(module: nn.Module) -> Masks:
    """The first convolution's channels 1 and 2 are constants; so is channel 0 of the second, which
    reads them alone, and channel 1, which reads nothing."""
    masks = every(module)
    masks["first"][1:3] = False
    masks["second"][0] = [False, True, True, False]
    masks["second"][1] = False
    return masks


@pytest.mark.parametrize(("name", "padding"), CASES)
def test_constants_are_folded(name, padding):
    module, layer = between(name, padding)
    masks = some(module)
    small = extracted(layer, masks)
    assert_same(small.module(photos()), masked(module, masks)(photos())[:, 0])
    assert convolutions(small) == {"first": (2, 3), "second": (3, 2), "third": (1, 3)}


def test_a_constant_is_another_at_the_borders():
    module, layer = between("sigmoid", 1)
    small = extracted(layer, some(module))
    (second, third) = (part for part in small.module.modules() if isinstance(part, ConstantMap))
    assert "borders" in small.fixed
    # What channels 1 and 2 add, by hand: where the padding is read, less.
    constant = torch.sigmoid(module.first.bias[1:3])
    kernels = module.second.weight[2:, 1:3]
    added = second()[0] - module.second.bias[2:, None, None]
    assert_same(added[:, 1, 1], torch.einsum("oikl,i->o", kernels, constant))
    assert_same(added[:, 0, 0], torch.einsum("oikl,i->o", kernels[:, :, 1:, 1:], constant))
    assert third().shape == (1, 1, 5, 5)


def test_a_map_is_stored_without_the_rows_that_repeat_themselves():
    inside = torch.arange(12.0).reshape(1, 3, 2, 2)
    whole = inside[:, :, [0, *[1] * 30], :][:, :, :, [*[0] * 20, 1]]
    stored = ConstantMap(whole)
    assert stored.values.numel() == inside.numel()
    assert torch.equal(stored(), whole)


def test_nothing_is_left_of_a_silent_circuit_but_its_constant():
    module, layer = between("sigmoid", 1)
    masks = every(module)
    masks["first"][:] = False
    small = extracted(layer, masks)
    assert convolutions(small) == {}
    for count in (1, 3):
        wanted = masked(module, masks)(photos(count))[:, 0]
        assert_same(small.module(photos(count)), wanted)


def test_a_planted_circuit_is_all_that_is_left():
    """Through either branch of a fork, and a concatenation."""
    circuit = planted()
    masks: Masks = {name: ~mask for name, mask in every(circuit.network.module).items()}
    for name, out, column in circuit.kernels:
        masks[name][out, column] = True
    small = extracted(open_double(circuit.network, circuit.layer), masks, circuit.unit)
    found = convolutions(small)
    assert {name: out for name, (out, _) in found.items()} == {
        "stem": 2,
        "one": 1,
        "three": 1,
        "target": 1,
    }
    # Of its input a small convolution takes what is computed for others too, at zero weights.
    kernels = [part.weight.flatten(2).any(2) for part in small.module.children()]
    assert sum(int(each.sum()) for each in kernels) == len(circuit.kernels)


class Grouped(nn.Module):
    """Four groups of two."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=4)
        self.last = nn.Conv2d(8, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(torch.sigmoid(self.grouped(torch.sigmoid(self.first(x)))))
        return y


def test_groups_that_are_left_stay_of_one_size():
    """Of the first group a row is needed, of the second both, of the third one that is constant."""
    module = drawn(Grouped())
    layer = open_layer(ModelGraph(module, (3, SIDE, SIDE)), "last")
    masks = every(module)
    masks["last"][0] = [True, False, True, True, True, False, False, False]
    masks["grouped"][4] = False
    masks["first"][2] = False
    small = extracted(layer, masks)
    assert_same(small.module(photos()), masked(module, masks)(photos())[:, 0])
    assert convolutions(small) == {"first": (4, 3), "grouped": (4, 4), "last": (1, 3)}
    assert small.module.grouped.groups == 2


@pytest.mark.parametrize("side", [7, 16])
def test_images_of_another_size(side):
    """Where constants are the same wherever the channel is read, there is nothing to be fixed."""
    module, layer = between("max pool", 0)
    masks = some(module)
    masks["third"][0, :2] = False
    small = extracted(layer, masks)
    assert small.fixed == ""
    assert_same(small.module(photos(2, side)), masked(module, masks)(photos(2, side))[:, 0])


@pytest.mark.parametrize(
    ("name", "padding", "why"),
    [
        ("average pool of the padding", 0, "borders of 'conv2d'"),
        ("padded", 0, "'pad'"),
        ("enlarged", 0, "'upsample_bilinear2d'"),
        ("sigmoid", 1, "borders of 'conv2d'"),
    ],
)
def test_why_images_must_be_of_one_size(name, padding, why):
    module, layer = between(name, padding)
    assert why in extracted(layer, some(module)).fixed
