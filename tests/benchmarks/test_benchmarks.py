"""The benchmarks run, and what they compare computes the same numbers. Nothing here is timed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.over_images import score_images
from tests.benchmarks.__main__ import main
from tests.benchmarks.engine import straight_line
from tests.benchmarks.limits import (
    backward_multiplications,
    circuit_multiplications,
    masked_multiplications,
)
from tests.benchmarks.report import chart, table
from tests.benchmarks.slow import Scores, best
from tests.benchmarks.subjects import DEMO
from tests.benchmarks.works import WORKS

UNIT = 5
# Of the largest score: float32 on both sides, sums in another order.
TOLERANCE = 1e-4
BUILDS = ("workers-demo", "demo")


def on_axis(scores: Scores) -> np.ndarray:
    """The slow reference's scores on the engine's axis."""
    pieces = []
    for _, convolution, _ in DEMO.layer.pieces():
        own = scores[convolution.name]
        pieces.append((own[UNIT] if convolution.one_row else own).flatten())
    return torch.cat(pieces).numpy()


def assert_close(found: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(found, wanted, rtol=0, atol=TOLERANCE * wanted.max())


def images() -> Tensor:
    return DEMO.pictures(2)


@pytest.mark.parametrize("criterion", ["actgrad", "snip"])
def test_the_slow_reference_scores_as_the_engine(criterion):
    found = score_images(
        DEMO.layer,
        [UNIT],
        [images()],
        keep={UNIT: [0, 1]},
        criteria=[criterion],
        response="sum_abs",
        block=1,
    )[criterion].single[0]
    slow = getattr(DEMO.slow, criterion)
    for row, image in zip(found, images(), strict=True):
        assert_close(row, on_axis(slow(UNIT, image[None])))


def test_the_slow_reference_iterates_as_the_engine():
    total = int(DEMO.layer.reachable(UNIT).sum())
    kept, steps = total // 10, 2
    wanted = on_axis(DEMO.slow.force(UNIT, images(), kept=kept, steps=steps))
    course = ForceRun(UNIT, schedule(kept, total, steps))
    (found,) = force_scores(DEMO.layer, [course], lambda: [images()], response="sum_abs")
    # Scores that differ in their last digits may put another kernel at the edge of a mask.
    both = keep_best(found, kept) & keep_best(wanted, kept)
    assert both.sum() >= 0.999 * kept


def test_the_slow_reference_runs_the_same_circuits():
    scores = DEMO.slow.actgrad(UNIT, images()[:1])
    kept = 3000
    masks = best(scores, UNIT, DEMO.layer_name, kept)
    wanted = DEMO.slow.output(images(), masks)[:, UNIT].numpy()
    mask = keep_best(on_axis(scores), kept)[None]
    found = circuit_maps(DEMO.layer, UNIT, mask, images())[0].numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


def test_multiplications_are_counted():
    # By hand: every convolution but the first, the target's own row alone, times positions.
    squeeze = 55 * 55 * (64 * 16 + 16 * 64 + 16 * 64 * 9 + 128 * 16 + 16 * 64 + 16 * 64 * 9)
    after = 27 * 27 * (128 * 32 + 32 * 128 + 32 * 128 * 9 + 256 * 32 + 32 * 9)
    assert backward_multiplications(DEMO.layer.network) == squeeze + after
    first = 64 * 3 * 9 * 111 * 111
    weights = squeeze + after - 27 * 27 * 32 * 9 + first
    assert masked_multiplications(DEMO.layer.network) == 2 * (squeeze + after) + weights
    everything = DEMO.layer.reachable(UNIT)
    assert circuit_multiplications(DEMO.layer, UNIT, everything) == squeeze + after
    # Of nothing, eight channels of each map are left.
    assert circuit_multiplications(DEMO.layer, UNIT, everything & False) < (squeeze + after) / 20


def test_a_straight_line_is_found():
    slope, start, residual = straight_line((1, 2, 4), [3.0, 5.0, 9.0])
    assert (slope, start) == pytest.approx((2, 1))
    assert residual == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [name for name in WORKS if name not in BUILDS])
def test_every_line_runs_at_a_small_size(name, tmp_path):
    row = WORKS[name][True]().to_json()
    # On a loaded machine a slope over so few points may be anything, below zero too.
    assert math.isfinite(row["ours_s"])
    drawn = tmp_path / "chart.svg"
    chart([row], drawn)
    assert row["work"] in table([row], {"cores": 2})
    if row["slow_s"] is not None:
        assert "slow reference" in drawn.read_text()


@pytest.mark.ray
@pytest.mark.usefixtures("own_ray")
def test_builds_of_one_worker_and_of_two_are_compared():
    row = WORKS["workers-demo"][True]().to_json()
    assert row["ours_s"] > 0
    assert row["facts"]["times the work of one worker"] > 0


def test_the_command_measures_in_a_process_of_its_own(tmp_path):
    written = tmp_path / "rows.json"
    options = ["masks-layer", "--small", "--json", str(written)]
    ended = CliRunner().invoke(main, options, catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    (row,) = json.loads(written.read_text())["rows"]
    assert row["ours_s"] > 0
    assert row["work"] in ended.output
