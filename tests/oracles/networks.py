"""Small networks to try things on: random, one of each kind, and one with a planted circuit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.oracles.blocks import EXTRA_KINDS, HALVING, KINDS, Block
from tests.oracles.convolutions import ConvCall, double, intercept


@dataclass(frozen=True)
class Network:
    """A network in evaluation mode, float32, for pictures (n, 3, *size).

    Attributes:
        kinds: of its blocks, in order; with `seed` they determine it (`build`).
        targets: convolutions it makes sense to explain, in no promised order.
        other_targets: batch norms and whole blocks, whose outputs have channels and a map too.
    """

    module: nn.Module
    kinds: tuple[str, ...]
    seed: int
    size: tuple[int, int]
    targets: tuple[str, ...]
    other_targets: tuple[str, ...]

    def images(self, count: int, *, seed: int = 0) -> Tensor:
        """Random pictures (count, 3, *size), float32, about as large as normalised photographs."""
        generator = torch.Generator().manual_seed(seed)
        return torch.randn((count, 3, *self.size), generator=generator)

    def channels(self, layer: str) -> int:
        """Channels of a target's output."""
        shapes: list[int] = []
        hook = self.module.get_submodule(layer).register_forward_hook(
            lambda _module, _args, output: shapes.append(output.shape[1])
        )
        with torch.no_grad():
            self.module(self.images(1))
        hook.remove()
        return shapes[0]


class Net(nn.Module):
    """Blocks in a row, a last convolution, and a classifier. A side branch leaves after the first
    block and joins again at the classifier: nothing in the row depends on it."""

    def __init__(self, kinds: Sequence[str]) -> None:
        super().__init__()
        self.body = nn.ModuleList()
        channels = 3
        for kind in kinds:
            block: Block = (KINDS | EXTRA_KINDS)[kind](channels)
            self.body.append(block)
            if len(self.body) == 1:
                self.aside = nn.Conv2d(block.channels, 4, 3, padding=1)
            channels = block.channels
        self.last = nn.Conv2d(channels, 4, 1)
        self.classify = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body[0](x)
        side = self.aside(x).mean((2, 3))
        for block in self.body[1:]:
            x = block(x)
        x = torch.relu_(self.last(x)).mean((2, 3))
        y: Tensor = self.classify(x + side)
        return y


def build(kinds: Sequence[str], *, seed: int = 0, size: tuple[int, int] = (9, 10)) -> Network:
    """The network of these blocks; its parameters and running statistics come from the seed.

    The first block gets the picture's 3 channels, so it has to be one that takes an odd number:
    "plain", "normed", "pointwise", "dilated", "strided", "same_pad" or "strided_same_pad".
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = Net(kinds)
        for part in module.modules():
            if isinstance(part, nn.BatchNorm2d):
                assert part.running_mean is not None
                assert part.running_var is not None
                part.running_mean.normal_(0.0, 0.3)
                part.running_var.uniform_(0.3, 2.0)
                part.weight.data.uniform_(-1.5, 1.5)
                part.bias.data.normal_(0.0, 0.3)
    named = [(name, part) for name, part in module.named_modules() if name != "aside"]
    gates = (".reduce", ".expand")
    return Network(
        module=module.eval(),
        kinds=tuple(kinds),
        seed=seed,
        size=size,
        targets=tuple(
            name for name, m in named if isinstance(m, nn.Conv2d) and not name.endswith(gates)
        ),
        other_targets=tuple(name for name, m in named if isinstance(m, nn.BatchNorm2d | Block)),
    )


FIRST = ("plain", "normed", "pointwise", "dilated", "strided", "same_pad", "strided_same_pad")
"""Kinds that can stand first, where there are three channels."""


@st.composite
def networks(draw: st.DrawFn, *, blocks: int = 3, kinds: Sequence[str] = tuple(KINDS)) -> Network:
    """Random networks of at most `blocks` blocks after the first, halving the map at most twice."""
    chosen = [draw(st.sampled_from([kind for kind in kinds if kind in FIRST] or FIRST))]
    for _ in range(draw(st.integers(1, blocks))):
        halved = sum(kind in HALVING for kind in chosen) >= 2
        chosen.append(
            draw(st.sampled_from([kind for kind in kinds if not (halved and kind in HALVING)]))
        )
    size = draw(st.tuples(st.integers(8, 11), st.integers(8, 11)))
    return build(chosen, seed=draw(st.integers(0, 2**16)), size=size)


_KINDS = {
    "sequential": ["plain", "max_pool", "pointwise", "avg_pool", "plain"],
    "branched": ["plain", "branched", "branched"],
    "residual": ["normed", "residual", "strided_residual"],
    "grouped": ["plain", "grouped", "grouped"],
    "depthwise": ["plain", "depthwise", "depthwise"],
    "multiplied": ["plain", "multiplied"],
    "dilated": ["dilated", "dilated"],
    "gated": ["strided", "gated", "plain"],
    "same_pad": ["strided_same_pad", "same_pad", "depthwise"],
    "preactivated": ["plain", "preactivated", "preactivated"],
    "shuffled": ["plain", "shuffled"],
    "standardised": ["plain", "standardised"],
    "attended": ["plain", "attended", "plain"],
    "pooled": ["normed", "max_pool", "branched", "pointwise", "branched", "max_pool"],
}

NAMED: dict[str, Callable[[], Network]] = {
    name: cache(partial(build, kinds)) for name, kinds in _KINDS.items()
}
"""One small network of each kind, always the same: all tests of a process share it, so none may
change it."""


@dataclass(frozen=True)
class Planted:
    """A network in which the kernels that matter to a unit are known: (convolution, out, in)."""

    network: Network
    layer: str
    unit: int
    kernels: frozenset[tuple[str, int, int]]


class _Fork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.one = nn.Conv2d(6, 4, 1)
        self.three = nn.Conv2d(6, 4, 3, padding=1)
        self.target = nn.Conv2d(8, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = torch.cat([self.relu(self.one(x)), self.relu(self.three(x))], 1)
        y: Tensor = self.target(x)
        return y


def planted() -> Planted:
    """Two paths to unit 2 of `target`, through either branch; all other kernels all but silent.

    The largest kernels are decoys into channels that a bias keeps dead, so that magnitude is wrong.
    """
    paths = frozenset(
        {
            ("stem", 0, 1),
            ("stem", 3, 2),
            ("one", 1, 0),
            ("three", 2, 3),
            ("target", 2, 1),
            ("target", 2, 4 + 2),
        }
    )
    generator = torch.Generator().manual_seed(0)
    module = _Fork()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(1e-3 * torch.randn(parameter.shape, generator=generator))
        for name, out, column in sorted(paths):
            kernel = module.get_submodule(name).get_parameter("weight")[out, column]
            kernel.copy_(1.0 + 0.2 * torch.randn(kernel.shape, generator=generator))
        for dead, decoy in ((module.stem, 5), (module.one, 3), (module.three, 0)):
            dead.weight[decoy].fill_(5.0)
            assert dead.bias is not None
            dead.bias[decoy] = -1e4
        module.target.weight[:, [3, 4]] = 5.0
    network = Network(module.eval(), (), 0, (8, 8), ("target",), ())
    return Planted(network, "target", 2, paths)


def run(network: Network, handler: Callable[[ConvCall], Tensor]) -> None:
    """One pass in float64 over one picture, every convolution's result given by `handler`."""
    module = double(network.module)
    with intercept(module, handler), torch.no_grad():
        module(network.images(1).double())
