"""A channel upstream: the kernels that it is made of, and those that read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.kernels import Convolution
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.wiring import IMAGE, Stretch, Wiring


@dataclass(frozen=True)
class ChannelKernel:
    """Describes one kernel of a channel.

    Attributes:
        end: `in` for a kernel that makes the channel, `out` for one that reads it.
        convolution: whose kernel it is.
        out_channel: its output channel.
        in_channel: its input channel, over all channels of the convolution's input.
        source: the convolution at the kernel's start; None where that is the image.
        source_channel: its output channel that feeds the input; None where several are mixed.
        weight_norm: the square root of the sum of its squared weights; None where they are unknown.
        weight_sum: the sum of its weights; None where they are unknown.
    """

    end: str
    convolution: str
    out_channel: int
    in_channel: int
    source: str | None
    source_channel: int | None
    weight_norm: float | None
    weight_sum: float | None


def layers_with_channel(reader: Reader, *, convolution: str, channel: int) -> tuple[str, ...]:
    """Name the layers of the atlas that the channel lies upstream of, or is a channel of, in the
    atlas' order.

    Raises:
        QueryError: no layer's network has that convolution, or it has no such channel.
    """
    found = tuple(
        name
        for name in reader.layers()
        for one in reader.layer(name).index.convolutions
        if one.name == convolution and 0 <= channel < one.out_channels
    )
    if not found:
        raise QueryError(
            f"no layer of the atlas has a channel {channel} of a convolution {convolution!r} "
            "upstream"
        )
    return found


def channel_kernels(reader: Reader, *, convolution: str, channel: int) -> pa.Table:
    """List the kernels that make a channel and those that read it, see `Atlas.channel_kernels`."""
    kernels: dict[tuple[object, ...], ChannelKernel] = {}
    for name in layers_with_channel(reader, convolution=convolution, channel=channel):
        layer = reader.layer(name)
        network = _Network(layer, reader.wiring(name), reader.weights(name))
        for kernel in network.of(convolution, channel):
            key = (kernel.end, kernel.convolution, kernel.out_channel, kernel.in_channel)
            kernels.setdefault((*key, kernel.source, kernel.source_channel), kernel)
    ordered = sorted(
        kernels.values(), key=lambda kernel: (kernel.end, -(kernel.weight_norm or 0.0))
    )
    return pa.Table.from_pylist([asdict(kernel) for kernel in ordered], _SCHEMA)


@dataclass(frozen=True)
class _Network:
    """A layer's convolutions, how they are joined, and their weights."""

    layer: LayerIndex
    wiring: Wiring
    weights: tuple[NDArray[np.float32] | None, ...]

    def of(self, convolution: str, channel: int) -> Iterator[ChannelKernel]:
        """List the kernels of a channel; where several channels are added, each has its own."""
        convolutions = self.layer.index.convolutions
        ordinal = [one.name for one in convolutions].index(convolution)
        for column in _inputs(convolutions[ordinal], channel):
            for stretch in self.wiring.of(ordinal):
                if stretch.start <= column < stretch.start + stretch.channels:
                    yield self._kernel("in", stretch, channel, column, None)
        for stretch in self.wiring.stretches:
            # Beyond the last convolution there is the layer's output, which has no kernels.
            if stretch.source != ordinal or stretch.into == len(convolutions):
                continue
            for column in _fed(stretch, channel):
                for output in _outputs(convolutions[stretch.into], column):
                    yield self._kernel("out", stretch, output, column, channel)

    def _kernel(
        self, end: str, stretch: Stretch, output: int, column: int, source_channel: int | None
    ) -> ChannelKernel:
        one = self.layer.index.convolutions[stretch.into]
        if source_channel is None and stretch.joined != "mixed":
            source_channel = stretch.source_start + column - stretch.start
        array = self.weights[stretch.into]
        weights = None if array is None else array[output, column % one.in_channels].astype(float)
        source = None if stretch.source == IMAGE else self._name(stretch.source)
        return ChannelKernel(
            end,
            one.name,
            output,
            column,
            source,
            source_channel,
            None if weights is None else float(np.sqrt((weights**2).sum())),
            None if weights is None else float(weights.sum()),
        )

    def _name(self, ordinal: int) -> str:
        return self.layer.index.convolutions[ordinal].name


def _inputs(one: Convolution, output: int) -> range:
    """Input channels, groups counted through, that an output channel reads."""
    first = output // (one.out_channels // one.groups) * one.in_channels
    return range(first, first + one.in_channels)


def _outputs(one: Convolution, column: int) -> range:
    """Output channels that read an input channel."""
    each = one.out_channels // one.groups
    first = column // one.in_channels * each
    return range(first, first + each)


def _fed(stretch: Stretch, channel: int) -> range:
    """Input channels of a stretch that an output channel of its source feeds."""
    if stretch.joined == "mixed":
        first, count = stretch.start, stretch.channels
        return range(first, first + count if channel >= stretch.source_start else first)
    column = stretch.start + channel - stretch.source_start
    inside = stretch.start <= column < stretch.start + stretch.channels
    return range(column, column + inside)


_SCHEMA = pa.schema(
    [
        pa.field("end", pa.string(), nullable=False),
        pa.field("convolution", pa.string(), nullable=False),
        pa.field("out_channel", pa.int32(), nullable=False),
        pa.field("in_channel", pa.int32(), nullable=False),
        pa.field("source", pa.string()),
        pa.field("source_channel", pa.int32()),
        pa.field("weight_norm", pa.float64()),
        pa.field("weight_sum", pa.float64()),
    ]
)
