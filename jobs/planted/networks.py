"""Small networks with planted circuits: which kernels a unit needs is known beforehand.

The planted kernels of a network carry all that its units respond to. Every other kernel is a decoy,
in one of these ways:

- into a channel that its bias keeps shut (a ReLU follows), whatever it reads;
- out of such a channel, or out of the image's last channel, which is zero: it reads nothing;
- between channels that are alive, with weights of zero.

The weights of the first two kinds are several times those of planted kernels. So with the decoys
ablated, one or all, the units respond exactly as before, and the planted kernels are the smallest
circuit that does that. In `cancelling` some decoys act all the same: two copies of a channel reach
the unit with opposite weights. Each alone matters, both together do not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

Kernel = tuple[str, int, int]
"""Convolution, output channel, and input channel within the group."""

_SIDE = 8
_CHANNELS = 4
_IMAGES = 12
_WIDTH = 8
_UNITS = 3
_SHUT = -1e4
_DECOY = 4.0
_SPREAD = 0.8


@dataclass(frozen=True)
class SubFeature:
    """Is what a unit needs for some of the images.

    Attributes:
        images: their indices.
        kernels: the planted kernels that act on them.
    """

    images: tuple[int, ...]
    kernels: frozenset[Kernel]


@dataclass(frozen=True)
class PlantedUnit:
    """Is a unit whose circuit is known.

    Attributes:
        number: the channel of the layer.
        kernels: its circuit.
        sub_features: where parts of it serve some images each.
    """

    number: int
    kernels: frozenset[Kernel]
    sub_features: tuple[SubFeature, ...] = ()


@dataclass(frozen=True)
class PlantedNetwork:
    """Is a network with units whose circuits are known.

    Attributes:
        name: what is planted.
        module: the network, in evaluation mode, for images (n, 4, 8, 8).
        layer: the path of the layer of the units.
        units: those whose circuits are known.
        images: (12, 4, 8, 8).
    """

    name: str
    module: nn.Module
    layer: str
    units: tuple[PlantedUnit, ...]
    images: Tensor = field(repr=False)

    @property
    def reachable(self) -> int:
        """Count the kernels that can reach a unit: its own row of the layer, and all below."""
        sizes = {
            path: part.weight.shape[:2]
            for path, part in self.module.named_modules()
            if isinstance(part, nn.Conv2d)
        }
        own = sizes.pop(self.layer)[1]
        return own + sum(rows * columns for rows, columns in sizes.values())


class _Chain(nn.Module):
    """Three convolutions in a row."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1)
        self.middle = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.last = nn.Conv2d(_WIDTH, _UNITS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.middle(torch.relu(self.stem(x))))
        return torch.relu(self.last(x))


class _Residual(nn.Module):
    """A block that adds to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1)
        self.first = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.second = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1)
        self.last = nn.Conv2d(_WIDTH, _UNITS, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.relu(x + self.second(torch.relu(self.first(x))))
        return torch.relu(self.last(x))


class _Branched(nn.Module):
    """Two branches side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1)
        self.one = nn.Conv2d(_WIDTH, _WIDTH // 2, 1)
        self.three = nn.Conv2d(_WIDTH, _WIDTH // 2, 3, padding=1)
        self.last = nn.Conv2d(_WIDTH, _UNITS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        x = torch.cat([torch.relu(self.one(x)), torch.relu(self.three(x))], 1)
        return torch.relu(self.last(x))


class _Depthwise(nn.Module):
    """A depthwise convolution and a pointwise one."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(_CHANNELS, _WIDTH, 3, padding=1)
        self.depthwise = nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1, groups=_WIDTH)
        self.pointwise = nn.Conv2d(_WIDTH, _WIDTH, 1)
        self.last = nn.Conv2d(_WIDTH, _UNITS, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.depthwise(torch.relu(self.stem(x))))
        return torch.relu(self.last(torch.relu(self.pointwise(x))))


def disjoint(seed: int) -> PlantedNetwork:
    """Plants the circuits of two units that share no kernel."""
    first = {("stem", 0, 0), ("stem", 1, 1), ("middle", 2, 0), ("middle", 2, 1), ("last", 0, 2)}
    other = {("stem", 4, 2), ("middle", 5, 4), ("middle", 6, 4), ("last", 1, 5), ("last", 1, 6)}
    return _planted("disjoint", _Chain(), (_unit(0, first), _unit(1, other)), seed)


def overlapping(seed: int) -> PlantedNetwork:
    """Plants the circuits of two units that share what lies below."""
    shared = {("stem", 0, 0), ("stem", 1, 1), ("middle", 2, 0), ("middle", 2, 1)}
    first = shared | {("middle", 3, 1), ("last", 0, 2), ("last", 0, 3)}
    other = shared | {("stem", 6, 2), ("middle", 4, 6), ("last", 1, 2), ("last", 1, 4)}
    return _planted("overlapping", _Chain(), (_unit(0, first), _unit(1, other)), seed)


def polysemantic(seed: int) -> PlantedNetwork:
    """Plants a unit that responds to two kinds of images, to each by kernels of its own. The first
    kind has nothing in the image's channel 1, the second nothing in channel 0."""
    one = frozenset({("stem", 0, 0), ("stem", 1, 0), ("middle", 2, 0), ("middle", 2, 1)})
    other = frozenset({("stem", 4, 1), ("middle", 5, 4), ("middle", 6, 4)})
    one |= {("last", 1, 2)}
    other |= {("last", 1, 5), ("last", 1, 6)}
    halves = (range(0, _IMAGES, 2), range(1, _IMAGES, 2))
    parts = tuple(
        SubFeature(tuple(half), kernels) for half, kernels in zip(halves, (one, other), strict=True)
    )
    planted = _planted("polysemantic", _Chain(), (PlantedUnit(1, one | other, parts),), seed)
    for half, empty in zip(halves, (1, 0), strict=True):
        planted.images[list(half), empty] = 0
    return planted


def residual(seed: int) -> PlantedNetwork:
    """Plants a circuit through a residual block and past it."""
    kernels = {("stem", 0, 0), ("stem", 1, 1), ("first", 2, 0), ("first", 2, 1), ("first", 3, 0)}
    kernels |= {("second", 1, 2), ("second", 4, 3), ("last", 2, 1), ("last", 2, 4)}
    return _planted("residual", _Residual(), (_unit(2, kernels),), seed)


def branched(seed: int) -> PlantedNetwork:
    """Plants a circuit through two branches."""
    kernels = {("stem", 0, 1), ("stem", 3, 2), ("one", 1, 0), ("one", 1, 3), ("three", 2, 3)}
    kernels |= {("last", 2, 1), ("last", 2, _WIDTH // 2 + 2)}
    return _planted("branched", _Branched(), (_unit(2, kernels),), seed)


def depthwise(seed: int) -> PlantedNetwork:
    """Plants a circuit through depthwise kernels."""
    kernels = {("stem", 0, 0), ("stem", 5, 2), ("depthwise", 0, 0), ("depthwise", 5, 0)}
    kernels |= {("pointwise", 3, 0), ("pointwise", 3, 5), ("pointwise", 4, 5)}
    kernels |= {("last", 0, 3), ("last", 0, 4)}
    return _planted("depthwise", _Depthwise(), (_unit(0, kernels),), seed)


def cancelling(seed: int) -> PlantedNetwork:
    """Plants a circuit beside two strong channels that cancel each other in the unit."""
    kernels = {("stem", 0, 0), ("stem", 1, 1), ("middle", 2, 0), ("middle", 2, 1), ("last", 0, 2)}
    planted = _planted("cancelling", _Chain(), (_unit(0, kernels),), seed, alive={"middle": {5, 6}})
    weights = dict(planted.module.named_parameters())
    with torch.no_grad():
        weights["middle.weight"][[5, 6], 0] = 1.0
        weights["last.weight"][0, 5] = _DECOY
        weights["last.weight"][0, 6] = -_DECOY
    return planted


NETWORKS: Mapping[str, Callable[[int], PlantedNetwork]] = {
    each.__name__: each
    for each in (
        disjoint,
        overlapping,
        polysemantic,
        residual,
        branched,
        depthwise,
        cancelling,
    )
}
"""Every planted network by its name, made from a seed."""


def small(seed: int) -> PlantedNetwork:
    """Makes a network of random weights, in which every kernel matters and none is planted."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = _Branched()
    unit = PlantedUnit(0, frozenset())
    return PlantedNetwork("small", module.eval(), "last", (unit,), _images(seed))


def _unit(number: int, kernels: Iterable[Kernel]) -> PlantedUnit:
    return PlantedUnit(number, frozenset(kernels))


def _images(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn((_IMAGES, _CHANNELS, _SIDE, _SIDE), generator=generator)


def _planted(
    name: str,
    module: nn.Module,
    units: tuple[PlantedUnit, ...],
    seed: int,
    *,
    alive: Mapping[str, set[int]] | None = None,
) -> PlantedNetwork:
    """Fills a network with decoys and plants the units' kernels. `alive` are further channels of
    some convolutions that are not shut; they are zero."""
    generator = torch.Generator().manual_seed(seed)
    planted = {kernel for unit in units for kernel in unit.kernels}
    images = _images(seed)
    images[:, -1] = 0
    # In the order of the forward pass, as what is alive decides what a decoy may be.
    for path, part in module.named_modules():
        if isinstance(part, nn.Conv2d):
            open_channels = {out for where, out, _ in planted if where == path}
            open_channels |= (alive or {}).get(path, set())
            _fill(part, open_channels, _live_inputs(module, part, images), generator)
            for where, out, column in sorted(planted):
                if where == path:
                    kernel = part.weight.data[out, column]
                    drawn = torch.randn(kernel.shape, generator=generator)
                    kernel.copy_((1 + _SPREAD * drawn) / kernel.numel() ** 0.5)
    last = module.get_submodule("last").get_parameter("bias")
    with torch.no_grad():
        for unit in units:  # so that they fire at half of the positions
            last[unit.number] = -module(images)[:, unit.number].median()
    return PlantedNetwork(name, module.eval(), "last", units, images)


def _fill(
    part: nn.Conv2d, open_channels: set[int], live: Tensor, generator: torch.Generator
) -> None:
    """Makes every kernel of a convolution a decoy; `live` says which channels it reads are not
    zero."""
    weight = part.weight.data
    weight.copy_(_DECOY * torch.randn(weight.shape, generator=generator))
    rows = len(weight) // part.groups
    for out in range(len(weight)):
        bias = 0.0 if out in open_channels else _SHUT
        if part.bias is not None:
            part.bias.data[out] = bias
        if out in open_channels:
            first = out // rows * weight.shape[1]
            weight[out, live[first : first + weight.shape[1]]] = 0


def _live_inputs(module: nn.Module, part: nn.Conv2d, images: Tensor) -> Tensor:
    """Says which channels a convolution reads are not zero on all images: (channels,) bool."""
    read: list[Tensor] = []
    hook = part.register_forward_pre_hook(lambda _part, given: read.append(given[0]))
    with torch.no_grad():
        module(images)
    hook.remove()
    return (read[0] != 0).any(dim=3).any(dim=2).any(dim=0)
