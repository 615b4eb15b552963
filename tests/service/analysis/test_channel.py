"""The kernels of a channel, counted one by one from the wiring and the weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from circuit_atlas.storage_schema.errors import QueryError
from tests.service.diagram import wirings
from tests.service.diagram.planted import plant


def _mixed_beside():
    """Between two convolutions, one channel goes on by itself, and the others are mixed."""
    planted = wirings.mixed()
    before, behind = planted.convolutions
    behind = replace(behind, in_channels=3, out_channels=4, groups=2, one_row=False)
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 1, 0, 0, "alone"),
        (1, 1, 5, 0, 1, "mixed"),
        (2, 0, 4, 1, 0, "alone"),
    )
    size = before.size + behind.size
    scores = {n: np.arange(size, dtype=np.float32) + 1 for n in range(2)}
    return replace(
        planted, convolutions=(before, behind), stretches=stretches, scores=scores, channels=4
    )


KINDS = [*wirings.ALL.values(), _mixed_beside]


def _expected(planted, name, channel):
    """The obvious way: over all kernels of all convolutions, and all stretches that feed each."""
    names = [one.name for one in planted.convolutions]
    rows = set()
    for ordinal, one in enumerate(planted.convolutions):
        for output in range(one.out_channels):
            group = output // (one.out_channels // one.groups)
            for column in range(one.in_channels * one.groups):
                if column // one.in_channels != group:
                    continue
                for into, start, channels, source, first, joined in planted.stretches:
                    if into != ordinal or not start <= column < start + channels:
                        continue
                    above = None if source < 0 else names[source]
                    fed = first + column - start
                    if (one.name, output) == (name, channel):
                        by = None if joined == "mixed" else fed
                        rows.add(("in", one.name, output, column, above, by))
                    reads = channel >= first if joined == "mixed" else channel == fed
                    if above == name and reads:
                        rows.add(("out", one.name, output, column, name, channel))
    return rows


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_kernels_of_every_channel(tmp_path, kind):
    planted = kind()
    atlas = plant(tmp_path / "atlas", planted)
    for one in planted.convolutions:
        for channel in range(one.out_channels):
            rows = atlas.channel_kernels(one.name, channel).to_pylist()
            found = [tuple(list(row.values())[:6]) for row in rows]
            assert len(set(found)) == len(found)
            assert set(found) == _expected(planted, one.name, channel)


def test_norm_and_sum_are_of_the_weights(atlas):
    rows = atlas.channel_kernels("conv1", 3).to_pylist()
    ends = [row["end"] for row in rows]
    assert ends == sorted(ends)
    assert {"in", "out"} == set(ends)
    layer = atlas.layers[0]
    names = [one.name for one in atlas.layer(layer).index.index.convolutions]
    weights = dict(zip(names, atlas.reader.weights(layer), strict=True))
    for end in ("in", "out"):
        norms = [row["weight_norm"] for row in rows if row["end"] == end]
        assert norms == sorted(norms, reverse=True)
    for row in rows:
        if row["convolution"] in weights:
            kernel = weights[row["convolution"]][row["out_channel"], row["in_channel"]].astype(
                np.float64
            )
            assert row["weight_norm"] == pytest.approx(np.linalg.norm(kernel))
            assert row["weight_sum"] == pytest.approx(kernel.sum())


@pytest.mark.parametrize(("name", "channel"), [("conv1", 8), ("conv9", 0), ("conv1", -1)])
def test_a_channel_that_is_not_there(atlas, name, channel):
    with pytest.raises(QueryError, match=f"no layer of the atlas has a channel {channel} of a"):
        atlas.channel_kernels(name, channel)
