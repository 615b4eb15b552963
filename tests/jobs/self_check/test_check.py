"""The self-check passes what is right, and names the operation on which anything goes wrong."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.jobs.circuits.compact_circuit import CompactCircuit
from circuit_atlas.jobs.engine import gradient_rules
from circuit_atlas.jobs.engine.targets import Response
from circuit_atlas.jobs.engine.traced_layer import open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.self_check import check
from circuit_atlas.jobs.self_check.check import SelfCheck, check_layer
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.storage_schema.directions import Directions
from circuit_atlas.storage_schema.errors import ModelError
from tests.oracles import cases
from tests.oracles.networks import NAMED

# Both sides compute in float32, in other orders.
ROUNDING = 1e-4

CASES = [
    *((name, NAMED[name]().other_targets[-1]) for name in ("branched", "gated", "residual")),
    *((name, make().targets[-1]) for name, make in NAMED.items()),
]


def image_of(side: int = 12) -> Tensor:
    return torch.randn((1, 3, side, side), generator=torch.Generator().manual_seed(3))


def checked(
    module: nn.Module,
    layer: str,
    *,
    response: Response = "sum_abs",
    image: Tensor | None = None,
    directions: Callable[[int], Directions] = Directions.none,
    activation: Activation = "pre",
    **changes: Any,
) -> SelfCheck:
    """The check of a layer; `changes` replace fields of the traced layer."""
    module = module.eval().requires_grad_(False)
    image = image_of() if image is None else image
    graph = ModelGraph(module, tuple(image.shape[1:]))
    opened = open_layer(graph, layer, directions, activation=activation)
    opened = dataclasses.replace(opened, **changes)
    numbers = [unit.number for unit in opened.index.units]
    return check_layer(graph, module, opened, image, numbers, response)


class Net(nn.Module):
    """Two convolutions with a function between them."""

    def __init__(self, between: Any = functional.relu) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.between = between
        self.last = nn.Conv2d(6, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.between(self.first(x)))
        return y


@pytest.mark.parametrize(("name", "target"), CASES)
def test_every_kind_of_network_passes(name, target):
    network = NAMED[name]()
    found = checked(network.module, target, image=network.images(1))
    assert found.difference < ROUNDING
    assert found.unseen == ()


@pytest.mark.parametrize("response", ["max", (2, 3)])
def test_other_responses_pass(response):
    assert checked(Net(), "last", response=response).difference < ROUNDING


@pytest.mark.parametrize("activation", ["pre", "post"])
@pytest.mark.parametrize("layer", ["0", "1", "2", "4", "6"])
def test_all_that_a_layer_may_be_passes(layer, activation):
    """A convolution with a chain behind it, a block, a pooled vector and class scores."""
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.SiLU()),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    found = checked(module, layer, activation=activation)
    assert found.difference < ROUNDING


@pytest.mark.parametrize("layer", ["conv@0", "conv@1", "conv"])
def test_any_call_of_a_module_passes(layer):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 3, 3, padding=1)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.conv(torch.tanh(self.conv(x)))
            return y

    assert checked(Twice(), layer).difference < ROUNDING


def test_a_direction_is_looked_at_as_the_sum_of_its_channels():
    mixed = partial(Directions.of_spec, {"mixed": (0.5, -1.0, 0.0, 2.0)})
    module = Net()
    module.last.weight.data[1:] = 0.0
    assert checked(module, "last", directions=mixed).difference < ROUNDING


def test_a_wrong_rule_is_refused_by_its_operation(monkeypatch):
    def half(walk, step, gradient):
        for each in right(walk, step, gradient):
            yield each._replace(gradient=each.gradient * 0.5)

    right = gradient_rules.RULES["silu"]
    monkeypatch.setitem(gradient_rules.RULES, "silu", half)
    with pytest.raises(ModelError, match=r"its scores differ .* they part at 'silu'.*self_check"):
        checked(Net(functional.silu), "last")


def test_a_rule_that_forgets_an_operand_is_refused(monkeypatch):
    def first_only(walk, step, gradient):
        yield next(iter(right(walk, step, gradient)))

    right = gradient_rules.RULES["mul"]
    monkeypatch.setitem(gradient_rules.RULES, "mul", first_only)
    with pytest.raises(ModelError, match="they part at 'mul'"):
        checked(Net(lambda x: torch.sigmoid(x) * torch.tanh(x)), "last")


def test_a_rule_that_fails_is_refused_by_its_operation(monkeypatch):
    def failing(_walk, _step, _gradient):
        raise RuntimeError("expected floating point")

    monkeypatch.setitem(gradient_rules.RULES, "silu", failing)
    with pytest.raises(ModelError, match=r"cannot compute 'silu'.*expected floating point"):
        checked(Net(functional.silu), "last")


class _PassedStraight(torch.autograd.Function):
    @staticmethod
    def forward(_context: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(_context: Any, gradient: Tensor) -> Tensor:
        return gradient


def test_a_backward_of_the_models_own_is_refused_where_it_stands():
    """Binary networks have such: the trace holds their forward pass alone."""
    with pytest.raises(ModelError, match=r"its scores differ .* they part at 'sign'"):
        checked(Net(_PassedStraight.apply), "last")


class Fickle(nn.Module):
    """Computes otherwise each time that it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = Net()
        self.scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        self.scale += 1.0
        y: Tensor = self.inner.last(self.scale * self.inner.first(x))
        return y


def test_a_forward_pass_that_the_trace_does_not_follow_is_refused():
    with pytest.raises(ModelError, match=r"its .* differ .* they part at .*'inner.last'"):
        checked(Fickle(), "inner.last")


def test_a_reach_that_is_too_small_is_refused():
    module = Net().eval().requires_grad_(False)
    upstream = open_layer(ModelGraph(module, (3, 12, 12)), "last").upstream
    reachable = upstream.reachable.copy()
    reachable[:, 0, 2] = False
    with pytest.raises(ModelError, match="depends on kernels of"):
        checked(module, "last", upstream=dataclasses.replace(upstream, reachable=reachable))


def test_a_wrong_circuit_is_refused(monkeypatch):
    right = CompactCircuit.maps

    def wrong(*args, **options):
        return right(*args, **options) * 1.01

    monkeypatch.setattr(CompactCircuit, "maps", wrong)
    with pytest.raises(ModelError, match="its circuits differ"):
        checked(Net(), "last")


def test_what_rounding_alone_does_is_taken(monkeypatch):
    """A model that loses digits agrees with the engine in float64, where it loses none."""

    def losing(x: Tensor) -> Tensor:
        return (x + 3e4) - 3e4

    monkeypatch.setattr(check, "MOST", 1e-9)
    assert checked(Net(losing), "last").difference > 1e-9


def test_weights_that_are_computed_are_scored_and_pruned_too():
    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return functional.conv2d(x, weight, self.bias)

    torch.manual_seed(0)
    module = nn.Sequential(Standardised(3, 6, 3), nn.ReLU(), Standardised(6, 4, 3))
    found = checked(module, "2")
    assert found.difference < ROUNDING
    assert found.unseen == ()


def test_stored_filters_and_weights_from_the_image_are_told_apart():
    class Blurred(nn.Module):
        """A filter in a buffer, and a convolution whose weights come from the image."""

        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first = nn.Conv2d(3, 4, 3)
            self.register_buffer("filter", torch.rand(4, 1, 3, 3))
            self.route = nn.Linear(4, 2)
            self.experts = nn.Parameter(torch.randn(2, 6, 4, 3, 3))
            self.last = nn.Conv2d(6, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = functional.conv2d(self.first(x), self.get_buffer("filter"), groups=4)
            batch, channels, height, width = x.shape
            share = torch.softmax(self.route(x.mean((2, 3))), 1)
            weight = torch.einsum("be,eoikl->boikl", share, self.experts).flatten(0, 1)
            folded = x.reshape(1, batch * channels, height, width)
            x = functional.conv2d(folded, weight, padding=1, groups=batch)
            y: Tensor = self.last(x.reshape(batch, 6, height, width).relu())
            return y

    assert checked(Blurred(), "last").difference < ROUNDING


@pytest.mark.parametrize(
    "name", ["channels folded into the batch", "folded images and images, one weight"]
)
def test_what_stays_whole_on_folded_images_is_taken_for_no_stray_kernels(name):
    found = checked(cases.CASES[name].build(), "target")
    assert found.difference < ROUNDING
    assert found.unseen == ()


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d])
def test_torchs_gradient_of_a_norm_of_transposed_values_is_not_believed(norm):
    """The backward pass of a norm gives other numbers where the gradient of one image comes in
    another order, here that of positions x channels."""

    class Attention(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm(6, affine=True)
            if isinstance(self.norm, nn.BatchNorm2d):
                nn.init.uniform_(self.norm.running_var, 0.5, 1.5)

        def between_norm(self, x: Tensor) -> Tensor:
            flat = self.norm(x).flatten(2).transpose(1, 2)
            weights = torch.softmax(flat @ flat.transpose(1, 2) / 12, 2)
            y: Tensor = (weights @ flat).transpose(1, 2).reshape(x.shape)
            return y

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.last(self.between_norm(self.first(x)))
            return y

    assert checked(Attention(), "last").difference < ROUNDING


@pytest.mark.parametrize("one_each", [False, True])
def test_a_convolution_of_positions_is_a_constant_of_the_network(one_each):
    """Of one set of positions for all images, and of one for each, whose number they know."""

    class Positions(Net):
        def __init__(self) -> None:
            super().__init__()
            self.encoding = nn.Conv2d(2, 6, 1)

        def forward(self, x: Tensor) -> Tensor:
            rows, columns = torch.linspace(0, 1, 12), torch.linspace(0, 1, 12)
            positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]
            if one_each:
                positions = torch.ones(x.shape[0], 1, 1, 1).cumsum(1) * positions
            y: Tensor = self.last((self.first(x) + self.encoding(positions)).relu())
            return y

    found = checked(Positions(), "last")
    assert found.difference < ROUNDING
    assert found.unseen == ()


def test_noise_takes_the_place_of_an_image_without_a_response():
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, bias=False), nn.ReLU(), nn.Conv2d(6, 4, 3, bias=False)
    )
    assert 0 < checked(module, "2", image=torch.zeros(1, 3, 12, 12)).difference < ROUNDING


def test_the_units_looked_at_are_those_that_respond():
    module = Net()
    module.last.weight.data[:3] = 0.0
    assert module.last.bias is not None
    module.last.bias.data[:3] = 0.0
    with pytest.MonkeyPatch.context() as patch:
        seen: list[int] = []
        right = check.answers

        def noted(module, output, image, units, response):
            seen.extend(units)
            return right(module, output, image, units, response)

        patch.setattr(check, "answers", noted)
        checked(module, "last")
    assert seen == [3]


def test_a_model_without_gradients_is_refused_in_a_line():
    class Frozen(Net):
        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                return super().forward(x)

    with pytest.raises(ModelError, match="fails the self-check") as caught:
        checked(Frozen(), "last")
    assert "\n" not in str(caught.value)


def test_the_callers_settings_come_back():
    before = torch.backends.cudnn.allow_tf32
    checked(Net(), "last")
    assert torch.backends.cudnn.allow_tf32 == before


def test_a_rule_that_gives_no_number_is_refused(monkeypatch):
    def nothing(walk, step, gradient):
        for each in right(walk, step, gradient):
            yield each._replace(gradient=each.gradient * math.nan)

    right = gradient_rules.RULES["silu"]
    monkeypatch.setitem(gradient_rules.RULES, "silu", nothing)
    with pytest.raises(ModelError, match="they part at 'silu'"):
        checked(Net(functional.silu), "last")


def test_a_unit_that_overflows_is_left_to_the_build():
    module = Net()
    module.last.weight.data[:] = 3e38
    assert checked(module, "last").difference == 0


@pytest.mark.parametrize(
    ("found", "wanted", "share"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0, 0.0], [0.0, 0.0], 0.0),
        ([1.0, 0.0], [0.0, 0.0], math.inf),
        ([math.nan, 1.0], [math.nan, 1.0], 0.0),
        ([math.nan, 1.0], [0.0, 1.0], math.inf),
        ([1.0], [1.0, 2.0], math.inf),
    ],
)
def test_a_share(found, wanted, share):
    assert check.share(torch.tensor(found), torch.tensor(wanted)) == share


def test_scores_of_two_units_and_of_one_are_both_looked_at(monkeypatch):
    """An operation's backward can be wrong for one gradient and right for two."""
    blocks: list[int] = []
    right = check.score_images

    def noted(*args, **options):
        blocks.append(options["block"])
        return right(*args, **options)

    monkeypatch.setattr(check, "score_images", noted)
    checked(Net(), "last")
    assert sorted(blocks) == [1, 2]
    assert np.isfinite(blocks).all()


class Ended(Net):
    """Ends behind its layers, with an error of its own."""

    def forward(self, x: Tensor) -> Tensor:
        super().forward(x)
        raise RuntimeError("no head")


class InBfloat16(Net):
    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class OfAList(nn.Module):
    """Takes a list of images of any size, as a detector does."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Net()

    def forward(self, images: list[Tensor]) -> list[Tensor]:
        assert isinstance(images, list)
        return list(self.backbone(torch.stack(images)))


@pytest.mark.parametrize(
    ("module", "layer"), [(Ended, "last"), (InBfloat16, "last"), (OfAList, "backbone.last")]
)
def test_a_model_is_looked_at_as_far_as_it_is_traced(module, layer):
    assert checked(module(), layer).difference < ROUNDING
