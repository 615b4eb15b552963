"""A task from its units to their commit records, with units that go wrong among them."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.tasks import worker as worker_module
from circuit_atlas.jobs.tasks.block import open_block
from circuit_atlas.jobs.tasks.estimate import estimate
from circuit_atlas.jobs.tasks.plan import Task, make_tasks, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    MismatchError,
    ModelError,
    QueryError,
    SpecError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer
from tests.jobs.builds import lay_out, write_noise

MODEL = '''
import torch
from torch import nn

def network():
    """Unit 1 is dead, unit 2 overflows."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, padding=1)
    )
    with torch.no_grad():
        model[2].weight[1] = 0
        model[2].weight[2] = 1e38
        model[2].bias[2] = 3e38
        model[0].weight[:] *= 10
    return model

calls = []

def fickle():
    """Other weights at each call."""
    calls.append(0)
    model = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        model.bias.fill_(len(calls))
    return nn.Sequential(model)
'''
ALL = list(get_args(Criterion))


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSpec:
    (tmp_path / "worker_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    pictures = tmp_path / "pictures"
    write_noise(pictures, count=6, side=12)
    return BuildSpec.from_values(
        {
            "model": {"reference": "worker_models:network"},
            "preprocessing": {"resize": [12, 12]},
            "images": {"source": str(pictures), "held_out": "odd"},
            "layers": [{"name": "2", "directions": {"pair": [1, 0, 0, -1, 0]}}],
            "circuits": {
                "criteria": ALL,
                "fractions": [1, 0.5, 0.1],
                "ablation": ["zero", "mean"],
                "top_images": 2,
                "force_steps": 3,
            },
            "run": {"store": str(tmp_path / "atlas"), "batch_size": 2},
        }
    )


def task(spec: BuildSpec, *units: int) -> Task:
    return Task("2", tuple(UnitKey(spec.model.reference, "2", unit) for unit in units))


def test_a_bad_unit_fails_alone(spec):
    lay_out(spec)
    receipts = CircuitJob(spec, 1).open().run(task(spec, 0, 1, 2, 3, 5))
    assert [receipt.state for receipt in receipts] == ["done", "dead", "failed", "done", "done"]
    assert receipts[2].kind == "non_finite"
    assert "unit 2 of '2' responds with NaN or infinity to image" in str(receipts[2].message)
    reader = Reader(spec.run.store)
    assert sorted(reader.commits("2")) == [0, 1, 3, 5]
    assert sorted(reader.failures("2")) == [2]


def test_a_block_that_was_lost_goes_on_after_its_last_commit(spec, monkeypatch):
    lay_out(spec)
    blocks = []

    def open_and_note(opened, layer, header, numbers, **options):
        blocks.append(list(numbers))
        return open_block(opened, layer, header, numbers, **options)

    def lose(self, record):
        if record.key.unit == 3:
            raise InfrastructureError("the machine was lost")
        return commit(self, record)

    commit = Writer.commit
    monkeypatch.setattr(worker_module, "open_block", open_and_note)
    with monkeypatch.context() as patch:
        patch.setattr(Writer, "commit", lose)
        with pytest.raises(InfrastructureError, match="the machine was lost"):
            CircuitJob(spec).open().run(task(spec, 0, 1, 3, 4, 5))
    before = Reader(spec.run.store).commits("2")
    assert sorted(before) == [0, 1]
    worker = CircuitJob(spec).open()
    receipts = worker.run(task(spec, 0, 1, 3, 4, 5))
    assert [receipt.state for receipt in receipts] == ["done", "dead", "done", "done", "done"]
    assert blocks == [[0, 1, 3, 4, 5], [3, 4, 5]], "no committed unit is computed again"
    assert worker.run(task(spec, 0, 1, 3, 4, 5)) == receipts
    assert len(blocks) == 2
    after = Reader(spec.run.store).commits("2")
    assert {unit: after[unit] for unit in before} == before


def test_what_is_stored_of_a_unit(spec):
    lay_out(spec)
    CircuitJob(spec, 1).open().run(task(spec, 0))
    reader = Reader(spec.run.store)
    commit = reader.commits("2")[0]
    rows = reader.faithfulness(commit).to_pylist()
    assert len(rows) == len(ALL) * 2 * 2 * 3, "criteria x ablations x splits x fractions"
    assert {row["images"] for row in rows} == {3}
    for row in rows:
        assert row["kernels"] == {1.0: 24, 0.5: 12, 0.1: 2}[row["fraction"]]
        if row["fraction"] == 1:
            assert row["pearson"] == pytest.approx(1)
            assert row["relative_l1"] == 0
        mask = reader.mask(commit, row["criterion"], row["level"])
        # Of the layer's rows the unit reads the first; a kernel acts where its channel has both.
        first, last = mask[:18].reshape(6, 3), mask[18:24]
        assert row["acting"] == (first & last[:, None]).sum() + (last & first.any(1)).sum()
    subfeatures = reader.subfeatures(commit).to_pylist()
    assert len(subfeatures) == 5 * 2 * 2 * 3, "criteria x ablations x images x fractions"
    assert {row["acting"] for row in subfeatures if row["fraction"] == 1} == {24}
    assert all(row["acting"] <= row["kernels"] for row in subfeatures)
    responses = reader.responses(commit).to_pylist()
    ranked = sorted(
        (row for row in responses if row["rank"] is not None), key=lambda row: row["rank"]
    )
    assert all(row["split"] == "scoring" for row in ranked)
    assert ranked[0]["response"] >= ranked[1]["response"]
    for row in responses:
        assert row["box_bottom"] - row["box_top"] <= 5
    for criterion in ALL:
        scores = reader.scores(commit, criterion)
        # The direction reads two rows of the target, so the axis of this layer holds all five.
        assert scores.shape == ((3 if criterion == "force" else 1), 48)
        np.testing.assert_array_equal((~np.isnan(scores)).sum(axis=1), 24)
    own = reader.image_scores(commit, "actgrad")
    assert own.shape == (2, 48)


def test_what_a_comparison_needs_is_stored_where_it_is_asked_for(spec):
    circuits = spec.circuits.model_copy(
        update={"criteria": ("actgrad", "integrated", "learned", "random")}
    )
    learned = spec.learned.model_copy(update={"steps": 8})
    run = spec.run.model_copy(update={"image_sums": True})
    spec = spec.model_copy(update={"circuits": circuits, "learned": learned, "run": run})
    lay_out(spec)
    CircuitJob(spec, 1).open().run(task(spec, 0, 1))
    reader = Reader(spec.run.store)
    assert reader.image_sums(reader.commits("2")[1]) is None, "a dead unit"
    commit = reader.commits("2")[0]
    keys = ["criterion", "ablation", "split", "level"]
    sums = ["positions", "circuit", "full", "products", "circuit_squares", "full_squares"]
    added = reader.image_sums(commit).group_by(keys).aggregate([(name, "sum") for name in sums])
    stored = {
        tuple(row[key] for key in keys): row["pearson"]
        for row in reader.faithfulness(commit).to_pylist()
    }
    assert len(added) == len(stored)
    for row in added.to_pylist():
        n, c, y, both, cc, yy = (row[f"{name}_sum"] for name in sums)
        r = stored[tuple(row[key] for key in keys)]
        assert n == 3 * 12 * 12, "images x positions"
        if r is not None:
            spread = (n * cc - c * c) * (n * yy - y * y)
            assert r == pytest.approx((n * both - c * y) / np.sqrt(spread), abs=1e-6)
    build = resolve(spec)
    tasks = make_tasks(build, spec, {}, workers=1)
    without, with_sums = (
        estimate(build, tasks, images=build.images.num_rows, image_sums=asked).size_bytes
        for asked in (False, True)
    )
    size_bytes = sum(o.size_bytes for o in commit.objects if "image_sums" in o.path)
    assert 0 < size_bytes <= (with_sums - without) / 6, "of six units that are planned"

    times_s = dict(commit.criteria_s)
    assert tuple(times_s) == circuits.criteria
    # The dead unit has half of the task's time, and none of what was scored.
    assert all(0 < time_s < 2 * commit.compute_s for time_s in times_s.values())


def test_the_layers_network_is_stored_before_its_first_unit(spec, monkeypatch):
    lay_out(spec)
    reader = Reader(spec.run.store)
    with pytest.raises(QueryError, match="no worker has begun with it"):
        reader.wiring("2")

    def put(self, path, data, real=Objects.create):
        if layer_paths.committed_unit(path) is not None:
            assert self.exists(layer_paths.network("2"))
        return real(self, path, data)

    monkeypatch.setattr(Objects, "create", put)
    CircuitJob(spec, 1).open().run(task(spec, 0))
    assert [vars(stretch)["source"] for stretch in reader.wiring("2").stretches] == [-1, 0, 1]
    first, last = reader.weights("2")
    assert (first.shape, last.shape) == ((6, 3, 3, 3), (5, 6, 3, 3))
    np.testing.assert_array_equal(last[1], 0)
    channels = reader.channels("2").to_pylist()
    scoring = {
        n for n, split in enumerate(reader.images()["split"].to_pylist()) if split == "scoring"
    }
    assert {row["image"] for row in channels} == scoring
    assert verify(open_store(spec.run.store)) == ()


def test_a_second_worker_takes_the_network_that_is_there(spec, monkeypatch):
    lay_out(spec)
    CircuitJob(spec, 1).open().run(task(spec, 0))
    monkeypatch.setattr(worker_module, "network_record", lambda *_: pytest.fail("computed again"))
    (receipt,) = CircuitJob(spec, 1).open().run(task(spec, 3))
    assert receipt.state == "done"


def test_alone_or_together_gives_the_same_masks(spec, tmp_path):
    lay_out(spec)
    CircuitJob(spec, 1).open().run(task(spec, 0, 3, 4, 5))
    alone = BuildSpec.from_values(
        {**spec.model_dump(), "run": {"store": str(tmp_path / "alone"), "batch_size": 1}}
    )
    lay_out(alone)
    worker = CircuitJob(alone, 1).open()
    for unit in (0, 3, 4, 5):
        worker.run(task(alone, unit))
    one, other = Reader(spec.run.store), Reader(alone.run.store)
    assert sorted(one.commits("2")) == [0, 3, 4, 5]
    for unit, commit in one.commits("2").items():
        for criterion in ALL:
            for level in range(3):
                left = one.mask(commit, criterion, level)
                np.testing.assert_array_equal(
                    left, other.mask(other.commits("2")[unit], criterion, level)
                )


def test_the_plan_leaves_out_what_is_committed(spec):
    build = resolve(spec)
    tasks = make_tasks(build, spec, {"2": [0, 4]}, workers=1)
    assert [key.unit for task in tasks for key in task.units] == [1, 2, 3, 5]
    found = estimate(build, tasks, images=build.images.num_rows)
    assert (found.layers[0].units, found.layers[0].kernels, found.images) == (4, 48, 6)
    assert found.size_bytes == found.layers[0].size_bytes > 0


def test_a_worker_whose_model_has_other_weights_says_what_a_function_must_do(spec):
    values = spec.model_dump()
    values["model"]["reference"] = "worker_models:fickle"
    values["layers"] = [{"name": "0"}]
    fickle = BuildSpec.from_values(values)
    lay_out(fickle)
    with pytest.raises(MismatchError, match="has to return the same weights at each call"):
        CircuitJob(fickle, 1).open()


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_gpu_that_is_not_there(spec, device, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    values = spec.model_dump()
    values["run"]["device"] = device
    with pytest.raises(SpecError, match=f"'{device}' was asked for, but torch finds no such GPU"):
        resolve(BuildSpec.from_values(values))


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([{"name": "3"}], "layer '3' is not in the model: the layers are '0', '1' and '2'"),
        ([{"name": "2", "units": [5]}], "unit 5 of layer '2' is out of range.*0 to 4"),
        (
            [{"name": "2", "directions": {"d": [1.0]}}],
            "direction 'd' is of length 1 and the layer has 5",
        ),
    ],
)
def test_layers_and_units_that_are_not_there(spec, layers, message):
    wrong = BuildSpec.from_values({**spec.model_dump(), "layers": layers})
    with pytest.raises(ModelError, match=message):
        resolve(wrong)


def test_a_position_outside_the_map(spec):
    wrong = spec.model_dump()
    wrong["circuits"]["response"] = [12, 0]
    with pytest.raises(ModelError, match=r"position \[12, 0\] lies outside.*12 x 12"):
        resolve(BuildSpec.from_values(wrong))
