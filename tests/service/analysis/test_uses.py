"""Which circuits hold a kernel: counted one by one from the circuits themselves."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.service import Circuit
from circuit_atlas.storage_schema.errors import QueryError
from tests.service.analysis.planted import SIZE, Planted, plant, random_scores


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    units = {
        n: Planted({"actgrad": random_scores(n), "force": random_scores(n + 10, runs=4)})
        for n in range(5)
    }
    return plant(tmp_path_factory.mktemp("planted") / "atlas", units)


def _expected(circuit: Circuit, wanted) -> dict[str, object] | None:
    """The obvious way: over the circuit's kernels, best first, ties by position."""
    rows = circuit.kernels().to_pylist()
    ordered = sorted(rows, key=lambda row: (-row["score"], row["position"]))
    held = [place for place, row in enumerate(ordered) if wanted(row)]
    if not held:
        return None
    share = sum(ordered[place]["score"] for place in held) / sum(row["score"] for row in rows)
    return {"kernels": len(held), "share": pytest.approx(share, rel=1e-12), "rank": held[0]}


@pytest.mark.parametrize("keep", [0.5, 0.1])
@pytest.mark.parametrize("criterion", ["actgrad", "force"])
@pytest.mark.parametrize(
    ("convolution", "out", "channel"),
    [
        ("wide", None, None),
        ("wide", 3, None),
        ("wide", None, 7),
        ("wide", 3, 7),
        ("deep", 2, None),
        ("deep", None, 7),
        ("top", 1, None),
        ("top", None, 8),
        ("top", 5, 0),
    ],
)
def test_units_that_use_a_kernel_or_channel(planted, convolution, out, channel, criterion, keep):
    layer = planted.layer("top")
    rows = layer.uses(convolution, out=out, channel=channel, keep=keep, criterion=criterion)
    expected = {}
    for number in range(5):
        found = _expected(
            layer.unit(number).circuit(keep=keep, criterion=criterion),
            lambda row: (
                row["convolution"] == convolution
                and out in (None, row["out_channel"])
                and channel in (None, row["in_channel"])
            ),
        )
        if found is not None:
            expected[number] = {"unit": number, "name": str(number), **found}
    assert {row["unit"]: row for row in rows.to_pylist()} == expected
    order = [(-row["share"], -row["kernels"], row["unit"]) for row in rows.to_pylist()]
    assert order == sorted(order)


def test_an_input_channel_of_a_grouped_convolution_counts_over_all_channels(atlas):
    layer = atlas.layer("conv2")
    rows = layer.uses("conv2", channel=5, keep=1)
    # Unit 0 reaches the first group alone; channel 5 belongs to the second.
    for row in rows.to_pylist():
        circuit = layer.unit(row["unit"]).circuit(keep=1)
        assert row["kernels"] == sum(("conv2", out, 5) in circuit for out in range(4))
    assert rows["kernels"].to_pylist() == [2, 2, 2]
    with pytest.raises(QueryError, match="no kernel from input channel 5 to output channel 1: it"):
        layer.uses("conv2", out=1, channel=5)


def test_scores_that_are_all_zero_have_no_share(tmp_path):
    scores = np.zeros((1, SIZE), np.float32)
    layer = plant(tmp_path / "atlas", {0: Planted({"actgrad": scores})}).layer("top")
    assert layer.uses("wide", out=0, keep=0.1).to_pylist() == [
        {"unit": 0, "name": "0", "kernels": 11, "share": None, "rank": 0}
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"convolution": "wild"}, "no convolution 'wild' upstream: did you mean 'wide'"),
        ({"convolution": "wide", "out": 12}, "out=12 is out of range: the output channels of wide"),
        ({"convolution": "deep", "channel": 8}, "the input channels of deep are 0 to 7"),
        ({"convolution": "deep", "channel": -1}, "channel=-1 is out of range"),
        ({"convolution": "wide", "out": "x"}, "out='x' is no whole number"),
        ({"convolution": "wide", "criterion": "actgrap"}, "did you mean 'actgrad'"),
        ({"convolution": "wide", "keep": 2}, r"keep=2 is outside \(0, 1\]"),
    ],
)
def test_bad_names_get_the_nearest_and_numbers_the_range(planted, arguments, message):
    with pytest.raises(QueryError, match=message):
        planted.layer("top").uses(**arguments)
