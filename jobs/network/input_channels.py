"""How many channels a network takes, by its convolutions."""

from __future__ import annotations

from torch import nn

_COLOURS = 3


def input_channels(module: nn.Module) -> int | None:
    """Tells how many channels the first convolution reads, in the order in which modules were
    added; None where there is none.

    Where any convolution reads three, it is three: the first added need not be the first to run.
    """
    inputs = [m.in_channels for m in module.modules() if isinstance(m, nn.Conv2d)]
    return _COLOURS if _COLOURS in inputs else next(iter(inputs), None)
