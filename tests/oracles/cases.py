"""Small networks of the kinds that an engine for convolutional networks gets wrong.

Each is stem -> middle -> target, a 3 x 3 convolution at each end, for images of 3 x 12 x 12.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

SIZE = (12, 12)
RAMP = torch.linspace(0, 1, 7)


class Net(nn.Module):
    def __init__(self, middle: nn.Module, channels: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = middle
        self.target = nn.Conv2d(channels, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.target(self.middle(self.stem(x)))
        return y


class Middle(nn.Module):
    """What `function` computes, with some modules to compute it with."""

    def __init__(self, function: Callable[[Any, Tensor], Any], **modules: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


@dataclass(frozen=True)
class Case:
    """A network, a layer of it, and what is known about it.

    Attributes:
        build: makes the network.
        layer: the layer.
        kernels: how many kernels reach unit 0; None where the oracle alone says.
    """

    build: Callable[[], nn.Module]
    layer: str = "target"
    kernels: int | None = None


def conv(inputs: int = 8, outputs: int = 8, size: int = 3, **more: Any) -> nn.Module:
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, **more)


def net(
    function: Callable[[Any, Tensor], Any],
    channels: int = 8,
    modules: Callable[[], dict[str, nn.Module]] = dict,
) -> Callable[[], nn.Module]:
    def build() -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Net(Middle(function, **modules()), channels).eval()

    return build


class Gradient(nn.Module):
    """Two convolutions with computed weights, one the other's transposed."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("sobel", torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]]))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.get_buffer("sobel").expand(8, 1, 3, 3)
        across = functional.conv2d(x, kernel * 1.0, padding=1, groups=8)
        down = functional.conv2d(x, kernel.transpose(2, 3) * 1.0, padding=1, groups=8)
        return torch.sqrt(across**2 + down**2 + 1e-6)


class Standardised(nn.Conv2d):
    """A convolution whose kernels are computed, at each call."""

    def forward(self, input: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return functional.conv2d(input, weight, self.bias, padding=1)


class Aside(nn.Module):
    """Returns y; what it computes last, and keeps for later, is something else."""

    def __init__(self) -> None:
        super().__init__()
        self.main = conv()
        self.head = conv(size=1)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.main(x))
        self.aside = self.head(y)
        return y


class Several(nn.Module):
    """Returns a number an image, and two maps by name."""

    def __init__(self) -> None:
        super().__init__()
        self.one = conv()
        self.two = conv(size=1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        one = self.one(x)
        return {"mean": one.mean((1, 2, 3)), "fine": one, "coarse": self.two(torch.relu(one))}


def shared() -> nn.Module:
    """Two modules that hold one weight."""
    module = net(
        lambda s, x: torch.tanh(s.second(torch.tanh(s.first(x)))),
        modules=lambda: {"first": conv(), "second": conv()},
    )()
    module.get_submodule("middle.second").weight = module.get_submodule("middle.first").weight
    return module


def with_block(block: type[nn.Module], use: Callable[[Any, Tensor], Tensor]) -> Any:
    return net(use, modules=lambda: {"block": block()})


def recurrent(s: Any, x: Tensor) -> Tensor:
    state = torch.zeros_like(x)
    for _ in range(3):
        state = functional.relu(s.conv(x + state))
    return state


def gated(s: Any, x: Tensor) -> Tensor:
    gate = torch.sigmoid(s.up(functional.relu(s.norm(s.down(x.mean((2, 3)))))))
    return x * gate[:, :, None, None]


def masked(s: Any, x: Tensor) -> Tensor:
    y = s.conv(x)
    return y * (y > y.mean((1, 2, 3), keepdim=True))


def channel_attention(_: Any, x: Tensor) -> Tensor:
    flat = x.flatten(2)
    weights = (flat @ flat.transpose(1, 2)).softmax(-1)
    return (weights @ flat).view_as(x)


def windows(s: Any, x: Tensor) -> Tensor:
    """Attention within windows that are folded into the batch."""
    n, c, h, w = x.shape
    parts = x.view(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 3, 5, 1)
    parts = parts.reshape(n * 4, h * w // 4, c)
    scores = (parts @ parts.transpose(1, 2) / 8).softmax(-1) @ s.value(parts)
    scores = scores.reshape(n, 2, 2, h // 2, w // 2, c).permute(0, 5, 1, 3, 2, 4)
    return scores.reshape(n, c, h, w)


def images_in_channels(s: Any, x: Tensor) -> Tensor:
    """A convolution whose kernels depend on the image, all images side by side as groups."""
    n, c, h, w = x.shape
    share = torch.sigmoid(x.mean((2, 3)))
    kernels = (share[:, :, None] * s.kernels.weight[None]).reshape(n * c, c, 1, 1)
    y = functional.conv2d(x.reshape(1, n * c, h, w), kernels, groups=n)
    return y.reshape(n, c, h, w)


def halves(s: Any, x: Tensor) -> Tensor:
    """A convolution of the halves of an image, which are folded into the batch."""
    n, c, h, w = x.shape
    parts = x.view(n, c, 2, h // 2, w).transpose(1, 2).reshape(n * 2, c, h // 2, w)
    y: Tensor = s.conv(parts)
    return y.view(n, 2, c, h // 2, w).transpose(1, 2).reshape(n, c, h, w)


def looked_up(s: Any, x: Tensor) -> Tensor:
    """A table read at integers made of the image."""
    index = (x.mean(1) * 4).long().clamp(-3, 3) + 3
    return x + s.table(index).permute(0, 3, 1, 2)


CASES: dict[str, Case] = {
    # Memory layout.
    "instance norm": Case(
        net(
            lambda s, x: functional.relu(s.norm(x)),
            modules=lambda: {"norm": nn.InstanceNorm2d(8, affine=True)},
        ),
        kernels=32,
    ),
    "instance norm in training's manner": Case(
        net(lambda _, x: functional.instance_norm(x[:, :, 1:]) * x[:, :, 1:]), kernels=32
    ),
    # Several operands.
    "power of two tensors": Case(
        net(lambda _, x: (functional.softplus(x[:, :4]) + 0.5) ** torch.sigmoid(x[:, 4:]), 4),
        kernels=28,
    ),
    "clamp by a tensor": Case(net(lambda _, x: torch.clamp(x[:, :4], max=x[:, 4:]), 4), kernels=28),
    "maximum": Case(net(lambda _, x: torch.maximum(x[:, :4], x[:, 4:]), 4)),
    "division": Case(net(lambda _, x: x[:, :4] / (x[:, 4:] ** 2 + 1), 4)),
    "interpolation": Case(
        net(lambda _, x: torch.lerp(x[:, :4], x[:, 4:], torch.sigmoid(x[:, 2:6])), 4)
    ),
    "power of a number by a tensor": Case(net(lambda _, x: 2.0**x)),
    "a tensor to its own power": Case(net(lambda _, x: (x**2 + 1) ** (x**2 + 1))),
    # Computed and shared weights, calls.
    "two computed weights": Case(with_block(Gradient, lambda s, x: s.block(x)), kernels=48),
    "a computed weight, called twice": Case(
        net(
            lambda s, x: s.conv(torch.tanh(s.conv(x))),
            modules=lambda: {"conv": Standardised(8, 8, 3)},
        )
    ),
    "weight norm": Case(
        net(lambda s, x: torch.relu(s.conv(x)), modules=lambda: {"conv": weight_norm(conv())})
    ),
    "a shared weight": Case(shared),
    "twice in series": Case(
        net(
            lambda s, x: functional.relu(s.conv(functional.relu(s.conv(x)))),
            modules=lambda: {"conv": conv()},
        )
    ),
    "the last of two calls": Case(
        net(lambda s, x: s.conv(functional.relu(s.conv(x))), modules=lambda: {"conv": conv()}),
        "middle.conv",
    ),
    "the first of two calls": Case(
        net(lambda s, x: s.conv(functional.relu(s.conv(x))), modules=lambda: {"conv": conv()}),
        "middle.conv@0",
        kernels=32,
    ),
    "recurrent": Case(net(recurrent, modules=lambda: {"conv": conv()})),
    "a loop of two": Case(
        net(
            lambda s, x: s.a(torch.tanh(s.b(torch.tanh(s.a(x))))),
            modules=lambda: {"a": conv(), "b": conv()},
        )
    ),
    # What a module returns.
    "a block with a side output": Case(
        with_block(Aside, lambda s, x: s.block(x) + s.block.aside), "middle.block", kernels=32
    ),
    "the first map of several": Case(
        with_block(Several, lambda s, x: s.block(x)["fine"] * s.block(x)["coarse"]),
        "middle.block@0",
        kernels=32,
    ),
    "a named one of several": Case(
        with_block(Several, lambda s, x: s.block(x)["coarse"] - x), "middle.block:coarse"
    ),
    "nothing but a name": Case(
        net(lambda s, x: s.same(torch.relu(x)), modules=lambda: {"same": nn.Identity()}),
        "middle.same",
        kernels=3,
    ),
    # Reach where no rule is known.
    "selu is the target": Case(
        net(lambda s, x: s.act(s.conv(x)), modules=lambda: {"conv": conv(), "act": nn.SELU()}),
        "middle.act",
        kernels=32,
    ),
    "group norm is the target": Case(
        net(
            lambda s, x: s.norm(s.conv(x)),
            modules=lambda: {"conv": conv(), "norm": nn.GroupNorm(2, 8)},
        ),
        "middle.norm",
        kernels=56,
    ),
    **{
        f"{name} before a depthwise convolution": Case(
            net(
                lambda s, x, function=function: s.conv(function(x)),
                modules=lambda: {"conv": conv(groups=8)},
            ),
            "middle.conv",
            kernels=4,
        )
        for name, function in {
            "negation": lambda x: -x,
            "centring": lambda x: x - x.mean((2, 3), keepdim=True),
            "root": lambda x: torch.sqrt(x * x + 1),
            "softmax over positions": lambda x: x.flatten(2).softmax(2).view_as(x),
            "a turn to channels last and back": lambda x: (x.permute(0, 2, 3, 1) * 2).permute(
                0, 3, 1, 2
            ),
            "a sine": lambda x: torch.sinc(x),
        }.items()
    },
    "mixed by position": Case(
        net(
            lambda s, x: s.norm(s.conv(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
            modules=lambda: {"conv": conv(groups=8), "norm": nn.LayerNorm(8)},
        )
    ),
    # Shapes that are not maps, integers, truth values.
    "padded shortcut": Case(
        net(
            lambda s, x: functional.relu(
                s.second(functional.relu(s.first(x)))
                + functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 4, 4))
            ),
            16,
            lambda: {"first": conv(8, 16, stride=2), "second": conv(16, 16)},
        )
    ),
    "padded in front alone": Case(
        net(lambda _, x: functional.pad(torch.relu(x), (0, 0, 0, 0, 3, 0), value=0.5), 11)
    ),
    "a gate with batch norm of vectors": Case(
        net(
            gated,
            modules=lambda: {
                "down": nn.Linear(8, 4),
                "norm": nn.BatchNorm1d(4),
                "up": nn.Linear(4, 8),
            },
        )
    ),
    "where": Case(
        net(lambda s, x: torch.where(x > 0, s.conv(x), -x), modules=lambda: {"conv": conv()})
    ),
    "a mask from a comparison": Case(net(masked, modules=lambda: {"conv": conv()})),
    "an index from the largest": Case(
        net(lambda _, x: x.gather(1, x.argmax(1, keepdim=True).expand_as(x)) + x)
    ),
    "a table": Case(net(looked_up, modules=lambda: {"table": nn.Embedding(7, 8)})),
    "attention over channels": Case(net(channel_attention)),
    "windows folded into the batch": Case(
        net(windows, modules=lambda: {"value": nn.Linear(8, 8)}),
    ),
    "images folded into channels": Case(
        net(images_in_channels, modules=lambda: {"kernels": nn.Linear(8, 8)})
    ),
    "channels folded into the batch": Case(
        net(
            lambda s, x: s.conv(x.reshape(x.shape[0] * 2, 4, *SIZE)).reshape(x.shape)[:, :4],
            4,
            modules=lambda: {"conv": nn.Conv2d(4, 4, 3, padding=1)},
        ),
        kernels=4 + 4 * 3,
    ),
    "folded images and images, one weight": Case(
        net(lambda s, x: s.conv(x).relu() + halves(s, x), modules=lambda: {"conv": conv()}),
        kernels=8 + 8 * 3,
    ),
    "frequencies": Case(
        net(lambda _, x: torch.fft.irfft2(torch.fft.rfft2(x) * RAMP, s=x.shape[-2:]) + x)
    ),
    "halves written over": Case(net(lambda _, x: torch.cat([x[:, :4].relu(), x], 1), 12)),
    # Convolutions of other kinds, whose kernels stay whole.
    "transposed": Case(
        net(
            lambda s, x: functional.relu(s.up(functional.relu(s.down(x)))),
            modules=lambda: {
                "down": conv(stride=2),
                "up": nn.ConvTranspose2d(8, 8, 2, stride=2),
            },
        ),
    ),
    "one axis": Case(
        net(
            lambda s, x: x * torch.sigmoid(s.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None],
            modules=lambda: {"conv": nn.Conv1d(1, 1, 3, padding=1)},
        )
    ),
    "three axes": Case(
        net(
            lambda s, x: s.conv(x[:, None])[:, 0],
            modules=lambda: {"conv": nn.Conv3d(1, 1, 3, padding=1)},
        )
    ),
}
"""What was wrong once, each kind in more than one way."""
