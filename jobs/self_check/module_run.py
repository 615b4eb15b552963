"""The model itself on one image: every convolution seen as torch is asked for it.

Nothing of the traced graph takes part but the operations after the module's own output that `after`
names. A convolution's weight is swapped for a tensor of its own where it is used, so that weights
which the model computes, such as standardised ones, are scored and pruned like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from circuit_atlas.jobs.engine.traced_layer import TracedLayer
from circuit_atlas.jobs.network.export import without_autocast
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.returned import Returned, returned_tensors

_CONVOLUTIONS = frozenset(
    (
        torch.conv1d,
        torch.conv2d,
        torch.conv3d,
        torch.conv_transpose1d,
        torch.conv_transpose2d,
        torch.conv_transpose3d,
    )
)
_NORMS = frozenset(
    (torch.batch_norm, functional.batch_norm, torch.instance_norm, functional.instance_norm)
)


@dataclass(frozen=True)
class WeightUse:
    """One call of a convolution of what depends on the image by a weight that does not.

    Attributes:
        weight: as the model gave it, (out, in / groups, height, width).
        leaf: what ran in its place.
        positions: of the call's output.
        module: path of the module that called.
        plain: whether it is a plain two-dimensional convolution.
    """

    weight: Tensor
    leaf: Tensor
    positions: int
    module: str
    plain: bool


@dataclass
class _Watch(TorchFunctionMode):
    """Swaps the weight of each convolution, and notes the call."""

    swap: Callable[[int, Tensor], Tensor]
    inside: list[str]
    uses: list[WeightUse] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _NORMS:
            return _normalised(func, args, kwargs)
        if func not in _CONVOLUTIONS:
            return func(*args, **kwargs)
        source = args[0] if args else kwargs["input"]
        weight = kwargs["weight"] if len(args) < 2 else args[1]
        # The image needs a gradient, and so does all that is computed from it. What runs on
        # anything else, such as positions, is a constant of the network.
        if weight.requires_grad or not source.requires_grad:
            return func(*args, **kwargs)
        leaf = self.swap(len(self.uses), weight)
        if len(args) < 2:
            kwargs["weight"] = leaf
        else:
            args = (args[0], leaf, *args[2:])
        output = func(*args, **kwargs)
        positions = output[0, 0].numel()
        path = (self.inside or [""])[-1]
        self.uses.append(WeightUse(weight, leaf, positions, path, func is torch.conv2d))
        return output


def _normalised(
    func: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Tensor:
    """What a batch or instance norm gives, with values and gradient laid out in the plain order:
    of one image whose axes are transposed in memory torch's backward pass gives other numbers
    (torch 2.14.1)."""
    if args:
        args = (args[0].contiguous(), *args[1:])
    else:
        kwargs["input"] = kwargs["input"].contiguous()
    output = func(*args, **kwargs)
    if output.requires_grad:
        output.register_hook(Tensor.contiguous)
    return output


@dataclass(frozen=True)
class LayerOutput:
    """Which tensor of the model a layer reads.

    Attributes:
        layer: the layer.
        returned: what module returns it, and at which call.
        step: the step of the traced network that it is the result of.
        root: path of the module that gets the images; "" for the model itself.
    """

    layer: TracedLayer
    returned: Returned
    step: str
    root: str

    @classmethod
    def of(cls, graph: ModelGraph, layer: TracedLayer) -> LayerOutput:
        """Looks it up."""
        returned = graph.returned(layer.index.layer)
        return cls(layer, returned, graph.results[returned], graph.root)

    def maps(self, own: Tensor, numbers: Sequence[int]) -> Tensor:
        """Reads units' maps off what the module returned for one image: (units, h, w)."""
        output = _passed_on(self.layer, self.step, own)
        return self.layer.targets(numbers).maps(output)[:, 0]


@dataclass(frozen=True)
class ModuleRun:
    """What the model gave for one image.

    Attributes:
        own: what the layer's module returned.
        uses: the convolutions, in the order in which they ran.
        returned: the tensors that modules returned themselves, not in a tuple; only where asked
            for.
    """

    own: Tensor
    uses: tuple[WeightUse, ...]
    returned: Mapping[Returned, Tensor]


def run_module(
    module: nn.Module,
    output: LayerOutput,
    image: Tensor,
    *,
    swap: Callable[[int, Tensor], Tensor],
    keep_all: bool = False,
) -> ModuleRun:
    """Runs the model as far as it is traced, without autocast.

    Args:
        module: the model, in evaluation mode.
        output: which tensor of it to read.
        image: (1, channels, height, width).
        swap: gives what runs in place of a convolution's weight, from the number of the call and
            that weight.
        keep_all: whether to keep what every module returns. Default: the layer's alone.
    """
    target = output.returned
    kept: dict[Returned, Tensor] = {}
    calls: dict[str, int] = {}

    def keep(path: str, result: Any) -> Any:
        call = calls.get(path, 0)
        calls[path] = call + 1
        if isinstance(result, Tensor):
            which = Returned(path, call, "")
            if keep_all or which == target:
                kept[which] = result
                # What follows may work in place; what is kept is what the module returned.
                return result.clone()
        elif (path, call) == (target.path, target.call):
            kept[target] = dict(returned_tensors(result))[target.key].clone()
        return None

    # Not the leaf itself, which a model may not write over.
    given = image.detach().requires_grad_().clone()
    with without_autocast(), _followed(module, keep) as inside, _Watch(swap, inside) as watch:
        try:
            module.get_submodule(output.root)(given)
        except (Exception, SystemExit):  # the model's own code, which may end behind the layer
            if target not in kept:
                raise
    return ModuleRun(kept[target], tuple(watch.uses), kept)


@contextmanager
def _followed(module: nn.Module, keep: Callable[[str, Any], Any]) -> Iterator[list[str]]:
    """Shows what each module returns to `keep`, whose own result the model goes on with; gives the
    paths of the modules that run at any time."""
    inside: list[str] = []

    def leave(path: str, result: Any) -> Any:
        inside.pop()
        return keep(path, result)

    with ExitStack() as hooks:
        for path, part in module.named_modules():
            before = part.register_forward_pre_hook(lambda *_, path=path: inside.append(path))
            hooks.callback(before.remove)
            after = part.register_forward_hook(lambda _, __, result, path=path: leave(path, result))
            hooks.callback(after.remove)
        yield inside


def _passed_on(layer: TracedLayer, step: str, own: Tensor) -> Tensor:
    """What the layer's units pass on of the module's own output, which is the result of a step: all
    steps after that one which read nothing else."""
    network = layer.network
    values: dict[str, Any] = {
        step: own.to(network.sites[-1].weight.dtype),
        **network.sizes.at(1, network.image),
    }
    for after in network.steps[network.steps.index(network.by_name[step]) + 1 :]:
        if all(name in values for name in after.inputs):
            values[after.name] = after.run(values)
    result: Tensor = values[network.target.name]
    return result
