"""What a network costs: the numbers that it stores, its multiply-adds, and its time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_LEAST_S = 0.25
_LEAST_ROUNDS = 5
_MOST_ROUNDS = 100


def parameters(module: nn.Module) -> int:
    """Counts the numbers that a network stores, in parameters and buffers; indices are none."""
    tensors = itertools.chain(module.parameters(), module.buffers())
    return sum(each.numel() for each in tensors if each.is_floating_point())


def multiply_adds(module: nn.Module, image: Tensor) -> int:
    """Counts the multiply-adds of convolutions and matrix products for one image, (1, channels,
    height, width)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(image)
    return int(counter.get_total_flops()) // 2


def seconds(modules: Sequence[nn.Module], images: Tensor) -> list[float]:
    """Measures how long each network takes for a batch of images: the fastest of rounds in which
    they run in turn, since what else the machine does can only slow them."""
    runs: list[list[float]] = [[] for _ in modules]
    with torch.no_grad():
        for module in modules:
            module(images)  # makes code for its convolutions
        end = time.perf_counter() + _LEAST_S
        for n in range(_MOST_ROUNDS):
            if n >= _LEAST_ROUNDS and time.perf_counter() > end:
                break
            for module, taken in zip(modules, runs, strict=True):
                _wait(images)
                started = time.perf_counter()
                module(images)
                _wait(images)
                taken.append(time.perf_counter() - started)
    return [min(taken) for taken in runs]


def _wait(images: Tensor) -> None:
    """Waits for what a GPU has still to do."""
    if images.device.type == "cuda":
        torch.cuda.synchronize(images.device)
