"""Which channels feed which: how the convolutions of a layer's kernel axis are joined.

Between the output of one convolution and the input of the next lie functions that treat channels
one by one (activations, batch norm, pooling), and joints: concatenations, sums, gates, shuffles.
The wiring says of every input channel which output channels it is made of, without a model.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass
from typing import Annotated, Literal

from msgspec import Meta

from circuit_atlas.storage_schema import documents
from circuit_atlas.storage_schema.bounds import MOST, Side, UnitNumber
from circuit_atlas.storage_schema.document_schema import RowsOf
from circuit_atlas.storage_schema.documents import seal
from circuit_atlas.storage_schema.header import LayerIndex

Joined = Literal["alone", "sum", "product", "mixed"]
IMAGE = -1
"""`Stretch.source` of the image itself."""
_COLOURS = 3


@dataclass(frozen=True, order=True)
class Stretch:
    """Channels of a convolution's input, side by side, and the channels that feed them.

    Channels [start, start + channels) of the input of `into` are fed by the channels from
    `source_start` on of the output of `source`, one by one; where `joined` is `mixed`, each of them
    by all channels of the source from `source_start` on.

    Attributes:
        into: ordinal of the convolution on the axis; as many as there are for the layer's output.
        start: the first of its input channels, groups counted through.
        channels: how many input channels.
        source: ordinal of the convolution that feeds them, -1 for the image. Where convolutions
            are called several times, it may be `into` itself or a later one.
        source_start: the first of its output channels.
        joined: `alone`: nothing else feeds these channels. `sum`: others are added (a residual
            sum). `product`: others are multiplied (a gate). `mixed`: an operation that mixes
            channels or positions lies between, so that every channel of the source feeds each.
    """

    into: UnitNumber
    start: UnitNumber
    channels: Side
    source: Annotated[int, Meta(ge=IMAGE, le=MOST)]
    source_start: UnitNumber
    joined: Joined


@dataclass(frozen=True)
class Wiring:
    """Holds all stretches of a layer, ordered by `into`, `start` and `source`."""

    stretches: Annotated[
        tuple[Stretch, ...],
        RowsOf(Stretch),
        "Each as [into, start, channels, source, source_start, joined]: channels [start, start + "
        "channels) of the input of convolution `into` are fed by channels from `source_start` on "
        "of the output of convolution `source`. Convolutions by their number in `index`; `into` = "
        "their count is the layer's output, `source` = -1 the image; where convolutions are called "
        "several times, `source` may be `into` itself or a later one. `joined`: `alone`; `sum` or "
        "`product` with others on the same channels; `mixed`, every source channel from "
        "`source_start` on feeds every input channel.",
    ]

    def of(self, into: int) -> tuple[Stretch, ...]:
        """Tell what feeds one convolution, or the layer's output."""
        return tuple(stretch for stretch in self.stretches if stretch.into == into)

    def to_json(self) -> str:
        """Return the text of `wiring.json`."""
        return seal({"stretches": [astuple(stretch) for stretch in self.stretches]})

    @classmethod
    def from_json(cls, text: str | bytes, *, location: str) -> Wiring:
        """Read what `to_json` wrote; CorruptError or SchemaError where that cannot be read."""
        return documents.read(cls, text, location=location, what="wiring")

    def outside(self, layer: LayerIndex) -> Stretch | None:
        """Return a stretch that lies outside the layer's convolutions; None where none does."""
        sources = {IMAGE: image_channels(self.stretches)}
        inputs = {}
        for ordinal, convolution in enumerate(layer.index.convolutions):
            sources[ordinal] = convolution.out_channels
            inputs[ordinal] = convolution.in_channels * convolution.groups
        inputs[len(inputs)] = layer.channels
        for stretch in self.stretches:
            given = 1 if stretch.joined == "mixed" else stretch.channels
            if (
                stretch.channels < 1
                or not 0 <= stretch.start <= inputs.get(stretch.into, -1) - stretch.channels
                or not 0 <= stretch.source_start <= sources.get(stretch.source, -1) - given
            ):
                return stretch
        return None


def image_channels(stretches: Iterable[Stretch]) -> int:
    """Tells how many channels the image has, as far as convolutions read them; three at least where
    they are mixed before any does, so that it cannot be seen."""
    read = [0]
    for stretch in stretches:
        if stretch.source == IMAGE and stretch.joined == "mixed":
            read += [stretch.source_start + 1, _COLOURS]
        elif stretch.source == IMAGE:
            read.append(stretch.source_start + stretch.channels)
    return max(read) or _COLOURS
