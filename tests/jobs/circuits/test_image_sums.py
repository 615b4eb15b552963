"""Sums over single images, of which r over any choice of images is made again."""

from __future__ import annotations

import numpy as np
import pytest

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.jobs.circuits.image_sums import image_sums

IMAGES = (4, 7, 9)


def slow(circuit: np.ndarray, full: np.ndarray) -> float:
    """Pearson r of two maps of some images, by its definition, position by position."""
    pairs = list(zip(circuit.ravel().tolist(), full.ravel().tolist(), strict=True))
    c_mean = sum(c for c, _ in pairs) / len(pairs)
    y_mean = sum(y for _, y in pairs) / len(pairs)
    both = sum((c - c_mean) * (y - y_mean) for c, y in pairs)
    c_spread = sum((c - c_mean) ** 2 for c, _ in pairs)
    y_spread = sum((y - y_mean) ** 2 for _, y in pairs)
    return both / (c_spread * y_spread) ** 0.5


@pytest.mark.parametrize("drawn", [[0, 1, 2], [2, 0, 2], [1, 1, 1]])
def test_r_over_drawn_images_is_made_of_their_sums(drawn):
    rng = np.random.default_rng(0)
    full = rng.normal(1.0, 1.0, (3, 4, 5)).astype(np.float32)
    run = CircuitRun(0, "mean", np.ones((2, 6), dtype=bool), full, range(3))
    run.maps[:] = full * 0.3 + rng.normal(0.0, 1.0, (2, 3, 4, 5))
    table = image_sums("snip", run, images=IMAGES, splits=("scoring", "scoring", "held_out"))
    assert table["image"].to_pylist() == [*IMAGES, *IMAGES]
    assert table["rung"].to_pylist() == [0, 0, 0, 1, 1, 1]
    assert table["split"].to_pylist()[2] == "held_out"
    for level in range(2):
        rows = table.slice(3 * level, 3).to_pylist()
        n, c, y, cc, yy, cy = (
            sum(rows[image][name] for image in drawn)
            for name in (
                "positions",
                "circuit",
                "full",
                "circuit_squares",
                "full_squares",
                "products",
            )
        )
        r = (n * cy - c * y) / np.sqrt((n * cc - c * c) * (n * yy - y * y))
        assert r == pytest.approx(slow(run.maps[level, drawn], full[drawn]), abs=1e-9)
