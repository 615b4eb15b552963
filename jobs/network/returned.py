"""What every module of a network returns, each time that it is called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

_INSIDE = "model."


@dataclass(frozen=True)
class Returned:
    """One tensor that a module returns.

    Attributes:
        path: the module's, by its first name in the network; "" for the network itself.
        call: which call of the module in one forward pass it belongs to, from 0.
        key: where the module returns several things, which of them it is, such as `1`, `features`
            or `0.1`; "" where it returns the tensor itself.
    """

    path: str
    call: int
    key: str


@dataclass(frozen=True)
class Run:
    """One run of a network.

    Attributes:
        returned: what its modules returned, in that order.
        calls: how often each module returned.
        error: what ended the run, where its code failed after a module had returned something.
    """

    returned: tuple[Returned, ...]
    calls: Mapping[str, int]
    error: BaseException | None


class ReturningModules(nn.Module):
    """A network that gives what each of its modules returns, in place of its own result.

    Each tensor is copied when its module returns it, so that what works in place later changes
    nothing. What the network itself returns may be of any type. Where its code fails, it gives what
    modules had returned until then.
    """

    def __init__(self, model: nn.Module, record: Callable[[Run], None], *, root: str = "") -> None:
        """Takes the network.

        Args:
            model: the network.
            record: is told of each run.
            root: path of the module that gets the images. Default: the network itself.
        """
        super().__init__()
        self.model = model
        self._record = record
        self._root = root

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Runs the network; gives everything that its modules return, in that order."""
        named: list[Returned] = []
        tensors: list[Tensor] = []
        calls: dict[str, int] = {}

        def note(path: str, result: Any) -> None:
            call = calls.get(path, 0)
            calls[path] = call + 1
            for key, tensor in returned_tensors(result):
                named.append(Returned(path, call, key))
                tensors.append(tensor.clone())

        with ExitStack() as hooks:
            for path, module in self.model.named_modules():
                hook = module.register_forward_hook(
                    lambda _module, _args, result, path=path: note(path, result)
                )
                hooks.callback(hook.remove)
            error = None
            try:
                self.model.get_submodule(self._root)(images)
            except (Exception, SystemExit) as raised:  # the forward pass is the user's code
                if not tensors:
                    raise
                error = raised
        self._record(Run(tuple(named), calls, error))
        return tuple(tensors)


def path_in_model(path: str) -> str:
    """Gives the path of a module or parameter of `ReturningModules` as the network itself has it;
    "" for the network."""
    return path.removeprefix(_INSIDE) if path.startswith(_INSIDE) else ""


def returned_tensors(result: Any, key: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields the tensors of a module's result, with the keys that lead to them."""
    if isinstance(result, Tensor):
        yield key, result
        return
    items: Any = ()
    if isinstance(result, Mapping):
        items = result.items()
    elif isinstance(result, (tuple, list)):
        items = enumerate(result)
    elif dataclasses.is_dataclass(result):
        items = vars(result).items()
    for name, item in items:
        yield from returned_tensors(item, f"{key}.{name}" if key else str(name))
