"""How far scores and circuits depend on how many units, and how many images, go together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from tests.jobs.builds import lay_out

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 8, 3),
    )
"""
CRITERIA = ("actgrad", "snip", "integrated", "cla", "force")
LAYER, UNITS = "5", tuple(range(8))
OF_SCORE = 2e-6
"""Of a score, by which it may differ at most; what docs/pages/numbers.md says."""

Stored = dict[tuple[int, str], tuple[NDArray[np.float32], NDArray[np.bool_]]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "block_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    images = np.random.default_rng(0).normal(size=(6, 3, 20, 20)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    return tmp_path


def stored(folder: Path, *, units: int, images: int) -> Stored:
    """Scores and masks of all units, so many units and images together."""
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "block_model:network"},
            "images": {"source": str(folder / "images.npy"), "held_out": "odd"},
            "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]},
            "layers": [{"name": LAYER, "units": list(UNITS), "activation": "pre"}],
            "circuits": {"criteria": CRITERIA, "fractions": [0.5, 0.2, 0.05], "top_images": 2},
            "run": {"store": str(folder / f"atlas-{units}-{images}"), "batch_size": images},
        }
    )
    lay_out(spec)
    worker = CircuitJob(resolve(spec).spec).open()
    keys = [UnitKey(spec.model.reference, LAYER, unit) for unit in UNITS]
    for start in range(0, len(keys), units):
        worker.run(Task(LAYER, tuple(keys[start : start + units])))
    reader = Reader(spec.run.store)
    return {
        (unit, name): (reader.scores(commit, name), _masks(reader, commit, name))
        for unit, commit in reader.commits(LAYER).items()
        for name in CRITERIA
    }


def _masks(reader: Reader, commit: Commit, criterion: str) -> NDArray[np.bool_]:
    levels = range(len(reader.header.fractions))
    return np.stack([reader.mask(commit, criterion, level) for level in levels])


def test_scores_differ_in_their_last_bits_by_units_and_not_by_images(folder: Path) -> None:
    together = stored(folder, units=len(UNITS), images=16)
    by_images = stored(folder, units=len(UNITS), images=1)
    for key, (scores, masks) in together.items():
        np.testing.assert_array_equal(by_images[key][0], scores)
        np.testing.assert_array_equal(by_images[key][1], masks)
    for key, (scores, masks) in stored(folder, units=1, images=16).items():
        before, kept = together[key]
        np.testing.assert_allclose(scores, before, rtol=OF_SCORE, err_msg=str(key))
        np.testing.assert_array_equal(masks, kept, err_msg=str(key))
