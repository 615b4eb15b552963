"""Torch's settings while circuits are computed in the caller's process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def worker_settings() -> Iterator[None]:
    """Gives torch as a worker has it, whatever the caller's settings are, which then come back:
    full float32, no inference mode, no autocast."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
        ):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
