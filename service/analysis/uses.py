"""The reverse index: whose circuits hold a kernel, or kernels of a channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.masks import Masks
from circuit_atlas.service.analysis.units import stored_commit
from circuit_atlas.service.circuit.selection import run_scores
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.wording import nearest


@dataclass(frozen=True)
class Sought:
    """Names kernels of one convolution: all, those of an output channel, those of an input channel,
    or the single one of both.

    Attributes:
        ordinal: of the convolution on the kernel axis.
        out: output channel, or None for all.
        channel: input channel, over all channels of the convolution's input, or None for all.
    """

    ordinal: int
    out: int | None
    channel: int | None

    @classmethod
    def of(
        cls,
        index: KernelIndex,
        *,
        layer: str,
        convolution: str,
        out: int | None,
        channel: int | None,
    ) -> Sought:
        """Check names against a layer's axis; QueryError, with the nearest names or the range,
        where there are no such kernels."""
        names = [c.name for c in index.convolutions]
        if not isinstance(convolution, str) or convolution not in names:
            raise QueryError(
                f"layer {layer!r} has no convolution {convolution!r} upstream: "
                + nearest(convolution, names, what="convolutions")
            )
        ordinal = names.index(convolution)
        one = index.convolutions[ordinal]
        outs, ins = one.out_channels, one.in_channels * one.groups
        out = _channel(out, outs, what="out", of=f"output channels of {convolution}")
        channel = _channel(channel, ins, what="channel", of=f"input channels of {convolution}")
        if out is not None and channel is not None:
            group = out // (outs // one.groups)
            first = group * one.in_channels
            if not first <= channel < first + one.in_channels:
                raise QueryError(
                    f"{convolution} has no kernel from input channel {channel} to output channel "
                    f"{out}: it is grouped, and {out} reads channels {first} to "
                    f"{first + one.in_channels - 1}"
                )
        return cls(ordinal, out, channel)

    def mask(self, index: KernelIndex, rows: tuple[int, ...]) -> NDArray[np.bool_]:
        """Tell which kernels of the convolution's stretch of a unit's axis. Shape: (its
        kernels,)."""
        piece = index.slices()[self.ordinal]
        _, out, channel = index.locate(np.arange(piece.start, piece.stop), rows)
        mask = np.ones(piece.stop - piece.start, np.bool_)
        if self.out is not None:
            mask &= out == self.out
        if self.channel is not None:
            mask &= channel == self.channel
        return mask


def uses(
    masks: Masks, *, convolution: str, out: int | None = None, channel: int | None = None
) -> pa.Table:
    """Tell which of the circuits that were added to `masks` hold those kernels; see `Layer.uses`.

    Reads the scores of the units that do.
    """
    layer = masks.index
    sought = Sought.of(
        layer.index, layer=layer.layer, convolution=convolution, out=out, channel=channel
    )
    each = (use_of(masks, sought, unit) for unit in sorted(masks.units))
    return to_table([use for use in each if use is not None])


@dataclass(frozen=True)
class Use:
    """Holds a row of the answer, see `Layer.uses`."""

    unit: int
    name: str
    kernels: int
    share: float | None
    rank: int


def use_of(masks: Masks, sought: Sought, unit: int) -> Use | None:
    """Tell what a unit's circuit, which was added to `masks`, holds of the kernels; None for
    nothing."""
    layer = masks.index
    index, info = layer.index, layer.unit(unit)
    own_row = index.convolutions[sought.ordinal].one_row
    wanted = _mask(sought, index, info.rows if own_row else (0,) * index.owned)
    piece = index.slices()[sought.ordinal]
    circuit = masks.mask(unit)
    held = np.flatnonzero(circuit[piece] & wanted) + piece.start
    if not len(held):
        return None
    commit = stored_commit(masks.reader, layer, info)
    scores = run_scores(masks.reader, commit, masks.criterion, keep=masks.keep)
    circuit_scores = scores[circuit].astype(np.float64)
    total = float(circuit_scores.sum())
    best = held[np.argmax(scores[held])]
    # Ties by position, as circuits are chosen.
    before = int((circuit_scores > scores[best]).sum())
    before += int((scores[:best][circuit[:best]] == scores[best]).sum())
    share = float(scores[held].sum(dtype=np.float64)) / total if total else None
    return Use(unit, info.name, len(held), share, before)


def to_table(rows: Sequence[Use]) -> pa.Table:
    """Put uses in their order: the largest share first, then most kernels, then by number."""
    ordered = sorted(rows, key=lambda use: (-(use.share or 0.0), -use.kernels, use.unit))
    return pa.Table.from_pylist([asdict(use) for use in ordered], _SCHEMA)


@lru_cache(maxsize=16)
def _mask(sought: Sought, index: KernelIndex, rows: tuple[int, ...]) -> NDArray[np.bool_]:
    # The same for all units of most layers, and the dearest part of looking at one.
    return sought.mask(index, rows)


def _channel(given: int | None, count: int, *, what: str, of: str) -> int | None:
    if given is None:
        return None
    number = arguments.whole(given, what=what)
    if not 0 <= number < count:
        raise QueryError(f"{what}={number} is out of range: the {of} are 0 to {count - 1}")
    return number


_SCHEMA = pa.schema(
    [
        pa.field("unit", pa.int32(), nullable=False),
        pa.field("name", pa.string(), nullable=False),
        pa.field("kernels", pa.int32(), nullable=False),
        pa.field("share", pa.float64()),
        pa.field("rank", pa.int32(), nullable=False),
    ]
)
