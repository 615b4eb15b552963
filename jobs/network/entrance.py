"""Where images come into a network that does not take a batch of them, such as a detector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn


class _EnteredError(Exception):
    """The images have come to a module; the rest need not be computed."""


def entrance(model: nn.Module, images: Tensor) -> str | None:
    """Finds the first module of several parts in a network that gets the images as one batch.

    The network is run once as it is, in Python. That of a network that takes the batch must get it
    unchanged; one that takes a list of images may first bring them to one size and normalise them.

    Args:
        model: in eval mode.
        images: (batch, channels, height, width).

    Returns:
        The module's path, or None where there is none.
    """

    def unchanged(value: Tensor) -> bool:
        return value.shape == images.shape and bool(torch.equal(value, images))

    return _first(model, images, unchanged) or _first(model, list(images), _is_batch_of(images))


def takes_list(model: nn.Module, images: Tensor) -> bool:
    """Says whether a network takes a list of images and brings them to a module as one batch."""
    return _first(model, list(images), _is_batch_of(images), parts=False) is not None


def _is_batch_of(images: Tensor) -> Callable[[Tensor], bool]:
    return lambda value: value.dim() == 4 and value.shape[:2] == images.shape[:2]


def _first(
    model: nn.Module, given: Any, is_batch: Callable[[Tensor], bool], *, parts: bool = True
) -> str | None:
    """The first module that gets a batch as the network is given something; where `parts` is set,
    one that has modules of its own."""
    entered: list[str] = []

    def look(path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        if len(args) == 1 and not kwargs and isinstance(args[0], Tensor) and is_batch(args[0]):
            entered.append(path)
            raise _EnteredError

    with ExitStack() as hooks, torch.no_grad():
        for path, module in model.named_modules():
            if path and (not parts or any(module.children())):
                hook = module.register_forward_pre_hook(
                    lambda _module, args, kwargs, path=path: look(path, args, kwargs),
                    with_kwargs=True,
                )
                hooks.callback(hook.remove)
        try:
            model(given)
        except (Exception, SystemExit):  # the forward pass is the user's code
            return entered[0] if entered else None
    return None


def count_calls(model: nn.Module, images: Tensor) -> Counter[str]:
    """Counts how often each module is called as the network computes a batch in Python, or until
    that fails."""
    calls: Counter[str] = Counter()
    with ExitStack() as hooks, torch.no_grad():
        for path, module in model.named_modules():
            hook = module.register_forward_hook(
                lambda _module, _args, _result, path=path: calls.update((path,))
            )
            hooks.callback(hook.remove)
        try:
            model(images)
        except (Exception, SystemExit):  # the forward pass is the user's code
            return calls
    return calls
