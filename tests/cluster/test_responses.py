"""A build whose units have images of their own: chosen by all responses, drawn, stored, resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from circuit_atlas.cluster.executor import RESPONSES, Event, Planned, TaskDone
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema import response_paths, responses
from circuit_atlas.storage_schema.errors import CorruptError, MismatchError, SpecError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify

MODEL = """
import torch
from torch import nn

def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(6, 5, 3, padding=1),
        nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 3), nn.Flatten(), nn.Linear(64, 3),
    )
"""
IMAGES = 40
LAYERS: list[dict[str, Any]] = [
    {"name": "2", "directions": {"pair": [1.0, 0.0, 0.0, -1.0, 0.0]}},
    {"name": "7"},
    {"name": "0", "units": [1, 4], "activation": "pre"},
]


class Cut:
    """Stops a build, as Ctrl-C does, after so many tasks."""

    def __init__(self, after: int) -> None:
        self._left = after

    def __call__(self, event: Event) -> None:
        self._left -= isinstance(event, TaskDone)
        if not self._left:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network, and an array of images of noise of very different contrast."""
    folder = tmp_path_factory.mktemp("responses")
    (folder / "response_models.py").write_text(MODEL)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(IMAGES, 3, 6, 6)) * rng.uniform(0.1, 3, (IMAGES, 1, 1, 1))
    np.save(folder / "images.npy", images.astype(np.float32))
    return folder


@pytest.fixture(autouse=True)
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The network can be imported, and a chunk is small."""
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setattr(responses, "CHUNK_IMAGES", 10)


def spec(folder: Path, store: str, **circuits: Any) -> BuildSpec:
    return BuildSpec.from_values(
        {
            "model": {"reference": "response_models:network"},
            "images": {"source": str(folder / "images.npy"), "held_out": 0.4},
            "preprocessing": {"mean": [0, 0, 0], "std": [1, 1, 1]},
            "layers": LAYERS,
            "circuits": {
                "criteria": ["actgrad", "random"],
                "fractions": [1, 0.5, 0.1],
                "ablation": ["zero", "mean"],
                "top_images": 3,
                **circuits,
            },
            "run": {"store": str(folder / store), "batch_size": 7, "self_check": False},
        }
    )


SAMPLED = {"scoring": {"top": 5, "random": 4}, "held_out": {"top": 2, "random": 3}}


@pytest.fixture(scope="module")
def sampled(folder: Path) -> Reader:
    """An atlas whose units have nine scoring images and five held-out ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setattr(responses, "CHUNK_IMAGES", 10)
        summary = build(spec(folder, "sampled", **SAMPLED), executor=LocalExecutor())
    assert summary.failed == summary.lost == 0
    return Reader(folder / "sampled")


def masks(reader: Reader) -> dict[tuple[str, int, str, int], bytes]:
    return {
        (layer, unit, criterion, level): reader.mask(commit, criterion, level).tobytes()
        for layer in reader.layers()
        for unit, commit in reader.commits(layer).items()
        if commit.state == "done"
        for criterion in reader.header.criteria
        for level in range(len(reader.header.fractions))
    }


def full_responses(folder: Path, layer: str) -> tuple[OpenedSpec, np.ndarray]:
    """r of every unit on every image, (images, units), from the layer's own network."""
    opened = OpenedSpec(spec(folder, "unused", **SAMPLED))
    traced = opened.layer(layer)
    targets = traced.targets(range(len(traced.index.units)))
    images = opened.images.batch(range(IMAGES))
    with torch.no_grad():
        maps = targets.maps(traced.network.output(images))
    return opened, maps.abs().sum((2, 3)).T.numpy()


def test_a_sample_of_all_images_gives_the_same_circuits(folder):
    every = {"top": 3, "random": IMAGES}
    build(spec(folder, "all", scoring="all", held_out="all"), executor=LocalExecutor())
    build(spec(folder, "whole", scoring=every, held_out=every), executor=LocalExecutor())
    expected, found = masks(Reader(folder / "all")), masks(Reader(folder / "whole"))
    assert len(expected) > 60
    assert found == expected
    for layer in ("2", "7", "0"):
        channels = Reader(folder / "whole").channels(layer)
        assert channels.equals(Reader(folder / "all").channels(layer))


@pytest.mark.parametrize("layer", ["2", "7", "0"])
def test_top_images_are_those_of_the_whole_set(folder, sampled, layer):
    opened, r = full_responses(folder, layer)
    splits = {"scoring": opened.images.scoring, "held_out": opened.images.held_out}
    assert len(splits["scoring"]) + len(splits["held_out"]) == IMAGES
    commits = sampled.commits(layer)
    assert len(commits) == {"2": 6, "7": 3, "0": 2}[layer]
    for unit, commit in commits.items():
        rows = sampled.responses(commit).to_pylist()
        for split, (top, random) in {"scoring": (5, 4), "held_out": (2, 3)}.items():
            of_split = [row for row in rows if row["split"] == split]
            best = sorted(splits[split], key=lambda image: (-r[image, unit], image))[:top]
            drawn = [row["image"] for row in of_split if row["drawn"] == "top"]
            assert drawn == sorted(best)
            assert sum(row["drawn"] == "random" for row in of_split) == random
            ids = [row["image"] for row in of_split]
            assert ids == sorted(set(ids))
            assert set(ids) <= set(splits[split])
        ranked = sorted((row["rank"], row["image"]) for row in rows if row["rank"] is not None)
        best = sorted(splits["scoring"], key=lambda image: (-r[image, unit], image))
        assert [image for _, image in ranked] == best[:3]
        faithfulness = sampled.faithfulness(commit).to_pylist()
        assert {row["images"] for row in faithfulness if row["split"] == "scoring"} == {9}
        assert {row["images"] for row in faithfulness if row["split"] == "held_out"} == {5}


def test_units_have_different_images_and_the_same_ones_on_a_second_build(folder, sampled):
    def images(reader: Reader) -> dict[int, tuple[int, ...]]:
        return {
            unit: tuple(reader.responses(commit)["image"].to_pylist())
            for unit, commit in reader.commits("2").items()
        }

    build(spec(folder, "second", **SAMPLED), executor=LocalExecutor())
    found = images(sampled)
    assert images(Reader(folder / "second")) == found
    assert len(set(found.values())) > 1


def test_the_distribution_of_a_units_responses(folder, sampled):
    _, r = full_responses(folder, "2")
    for unit in (0, 3, 5):
        found = sampled.distribution("2", unit)
        assert found is not None
        values = r[:, unit].astype(np.float64)
        assert found["images"] == IMAGES
        assert found["mean"] == pytest.approx(values.mean(), rel=1e-6)
        assert found["sd"] == pytest.approx(values.std(), rel=1e-6)
        assert (found["low"], found["high"]) == pytest.approx((values.min(), values.max()))
        counts, _ = np.histogram(values, len(found["counts"]), (found["low"], found["high"]))
        assert abs(np.cumsum(counts) - np.cumsum(found["counts"])).max() <= 1
        assert sum(found["counts"]) == IMAGES


def test_a_build_that_was_stopped_between_chunks_goes_on(folder, sampled):
    resumed = spec(folder, "resumed", **SAMPLED)
    with pytest.raises(KeyboardInterrupt):
        build(resumed, executor=LocalExecutor(), on_event=Cut(after=2))
    there = list((folder / "resumed" / "layers").rglob("responses/*/*.parquet"))
    assert len(there) == 2 * 2 * len(LAYERS), "chunks, of units and of channels"
    before = {path: path.stat().st_mtime_ns for path in there}
    events: list[Event] = []
    build(resumed, executor=LocalExecutor(), on_event=events.append)
    planned = [event for event in events if isinstance(event, Planned)]
    assert [(p.stage, p.count, p.skipped) for p in planned[:1]] == [(RESPONSES, 2, 2)]
    assert before == {path: path.stat().st_mtime_ns for path in before}
    reader = Reader(folder / "resumed")
    assert masks(reader) == masks(sampled)
    assert reader.distribution("7", 1) == sampled.distribution("7", 1)
    assert not verify(open_store(str(folder / "resumed")))


def test_units_that_are_asked_for_later_are_found_alone(folder):
    first = spec(folder, "later", **SAMPLED)
    few = first.layers[0].model_copy(update={"units": (1,)})
    build(first.model_copy(update={"layers": (few,)}), executor=LocalExecutor())
    more = first.layers[0].model_copy(update={"units": (0, 1)})
    build(first.model_copy(update={"layers": (more,)}), executor=LocalExecutor())
    records = responses.records(open_store(str(folder / "later")), "2").values()
    assert sorted(record.units for record in records) == [(0,), (1, 5)]
    assert Reader(folder / "later").commits("2").keys() == {0, 1, 5}


@pytest.mark.usefixtures("sampled")
def test_another_sample_is_another_atlas(folder):
    for circuits in ({}, {**SAMPLED, "held_out": "all"}):
        with pytest.raises(MismatchError, match="another spec"):
            build(spec(folder, "sampled", **circuits), executor=LocalExecutor())


def test_an_altered_chunk_is_found(folder):
    altered = spec(folder, "altered", **SAMPLED)
    with pytest.raises(KeyboardInterrupt):
        build(altered, executor=LocalExecutor(), on_event=Cut(after=2))
    path = next((folder / "altered" / "layers" / "7").glob("responses/[0-9a-f]*[0-9a-f]/*.parquet"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    assert path.name.split("-")[1] in [
        response_paths.chunk_of_responses(finding.path)[1] + ".parquet"
        for finding in verify(open_store(str(folder / "altered")))
        if finding.kind == "altered"
    ]
    with pytest.raises(CorruptError, match="is cut or altered"):
        build(altered, executor=LocalExecutor())


def test_what_is_no_sample_is_refused(folder):
    for wrong in ("some", {"top": 5}, {"top": 5, "random": -1}, {"top": 0, "random": 0}, 64):
        with pytest.raises(SpecError, match="scoring"):
            spec(folder, "refused", scoring=wrong)
    with pytest.raises(SpecError, match="has top = 2: give 3, as many as top_images"):
        spec(folder, "refused", scoring={"top": 2, "random": 9})


def test_a_client_tells_how_responses_are_spread(folder, sampled):
    build(spec(folder, "of all"), executor=LocalExecutor())
    for unit in (0, 5):
        known = Atlas.open(folder / "of all").layer("2").unit(unit).distribution()
        found = Atlas(sampled).layer("2").unit(unit).distribution()
        assert found.images == known.images == sum(known.counts) == sum(found.counts) == IMAGES
        assert found.mean == pytest.approx(known.mean)
        assert found.sd == pytest.approx(known.sd)
        assert found.edges == pytest.approx(known.edges)
        assert abs(np.cumsum(found.counts) - np.cumsum(known.counts)).max() <= 1
