"""Which kernels lie on a path, the slow and obvious way: no joints, no ranks, one kernel at a
time."""

from __future__ import annotations

from collections.abc import Collection

from tests.service.diagram.planted import Planted

Kernel = tuple[int, int, int]
"""Convolution, output channel, input channel over all groups."""


def sources(planted: Planted, into: int, channel: int) -> set[tuple[int, int]]:
    """The channels (convolution or -1, channel) that feed one input channel."""
    found = set()
    for to, start, channels, source, source_start, joined in planted.stretches:
        if to == into and start <= channel < start + channels:
            if joined == "mixed":
                size = 3 if source < 0 else planted.convolutions[source].out_channels
                found |= {(source, c) for c in range(source_start, size)}
            else:
                found.add((source, source_start + channel - start))
    return found


def on_path(
    planted: Planted, kernels: Collection[Kernel], channels: Collection[int]
) -> set[Kernel]:
    """Those on a path from the image to any of the target's channels."""
    kernels = set(kernels)

    def fed(kernel: Kernel) -> bool:
        before = sources(planted, kernel[0], kernel[2])
        return any(s < 0 for s, _ in before) or any(
            fed(other) for other in kernels if (other[0], other[1]) in before
        )

    last = len(planted.convolutions)
    ends = {end for channel in channels for end in sources(planted, last, channel)}

    def used(kernel: Kernel) -> bool:
        written = (kernel[0], kernel[1])
        return written in ends or any(
            used(other) for other in kernels if written in sources(planted, other[0], other[2])
        )

    return {kernel for kernel in kernels if fed(kernel) and used(kernel)}
