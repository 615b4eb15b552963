"""Images prepared by a run: once, resumed, and never again while their source is the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from circuit_atlas.cluster import images as stage
from circuit_atlas.cluster.executor import Planned
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.images import preparation
from circuit_atlas.jobs.images.folder import FileBytes
from circuit_atlas.jobs.images.preparation import Chunker
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks import look
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.service.commands.build_commands import plan_build
from circuit_atlas.storage_schema.errors import CorruptError, InfrastructureError, MismatchError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests.jobs.builds import write_noise

MODEL = """
import torch

def tiny():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 3), torch.nn.ReLU())
"""


@pytest.fixture
def spec(tmp_path, monkeypatch):
    """Nine photos, four chunks and a bit of them, and one unit of a tiny network."""
    monkeypatch.setattr(preparation, "CHUNK_IMAGES", 2)
    monkeypatch.setattr(stage, "_FEW_CHUNKS", 0)
    (tmp_path / "tiny_images_model.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "photos", count=9, side=8)
    return BuildSpec.from_values(
        {
            "model": {"reference": "tiny_images_model:tiny"},
            "preprocessing": {"resize": [8, 8]},
            "images": {"source": str(tmp_path / "photos")},
            "layers": [{"name": "0", "units": [0]}],
            "circuits": {"fractions": [0.5], "top_images": 2},
            "run": {"store": str(tmp_path / "atlas")},
        }
    )


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are read."""
    names = []
    whole = FileBytes.__call__

    def noted(self, entry):
        names.append(entry.name)
        return whole(self, entry)

    monkeypatch.setattr(FileBytes, "__call__", noted)
    return names


def built(spec):
    events = []
    build(spec, executor=LocalExecutor(), on_event=events.append)
    return events


def test_each_image_is_read_once_and_a_later_start_reads_none(spec, read):
    events = built(spec)
    planned = [event for event in events if isinstance(event, Planned)]
    assert [(event.stage.name, event.count) for event in planned] == [("images", 5), ("units", 1)]
    assert sorted(read) == [f"{n:02}.png" for n in range(9)]
    read.clear()
    events = built(spec)
    assert [event.stage.name for event in events if isinstance(event, Planned)] == ["units"]
    assert plan_build(spec).size_bytes == 0
    assert read == []
    assert verify(open_store(spec.run.store)) == ()


def test_a_preparation_that_was_cut_off_goes_on(spec, read, monkeypatch):
    prepare = Chunker.prepare

    def cut_off(self, objects, chunk):
        if chunk == 3:
            raise KeyboardInterrupt
        return prepare(self, objects, chunk)

    monkeypatch.setattr(Chunker, "prepare", cut_off)
    with pytest.raises(KeyboardInterrupt):
        built(spec)
    assert len(read) == 6
    monkeypatch.setattr(Chunker, "prepare", prepare)
    read.clear()
    built(spec)
    assert len(read) == 3


def test_files_that_were_touched_are_read_again_and_found_the_same(spec, read):
    built(spec)
    store = open_store(spec.run.store)
    before = {entry.path for entry in store.list("prepared/pixels")}
    for path in Path(spec.images.source).iterdir():
        os.utime(path, (1, 1))
    read.clear()
    built(spec)
    assert len(read) == 9
    assert {entry.path for entry in store.list("prepared/pixels")} == before
    read.clear()
    built(spec)
    assert read == []


def test_other_names_are_refused_before_any_image_is_read(spec, read):
    built(spec)
    (Path(spec.images.source) / "03.png").rename(Path(spec.images.source) / "x.png")
    read.clear()
    for ask in (built, plan_build):
        with pytest.raises(MismatchError, match=r"other images \(03.png removed, x.png added\)"):
            ask(spec)
    assert read == []


def test_an_image_that_was_changed_is_refused(spec):
    built(spec)
    write_noise(Path(spec.images.source) / "new", count=1, side=9)
    (Path(spec.images.source) / "new" / "00.png").replace(Path(spec.images.source) / "04.png")
    with pytest.raises(MismatchError, match=r"other images .*04.png changed"):
        built(spec)


def test_a_worker_needs_no_source_and_refuses_altered_pixels(spec, tmp_path):
    built(spec)
    reader = Reader(spec.run.store)
    (tmp_path / "photos").rename(tmp_path / "gone")
    resolved = BuildSpec.from_values({**spec.model_dump(), "preprocessing": {"resize": [8, 8]}})
    opened = CircuitJob(resolved, 1).prepare().opened
    first = opened.images.batch([0])
    chunk = tmp_path / "atlas" / reader.pixels().chunks[0].path
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    again = CircuitJob(resolved, 1).prepare().opened.images
    assert torch.equal(again.batch([0]), first)
    with pytest.raises(CorruptError, match="holds other pixels than were prepared"):
        again.batch([1])
    assert "altered" in {finding.kind for finding in verify(open_store(spec.run.store))}


def test_images_that_take_their_worker_down_are_named(spec, monkeypatch):
    def down(*_):
        raise MemoryError

    monkeypatch.setattr(Chunker, "prepare", down)
    with pytest.raises(InfrastructureError, match=r"images .* could not be prepared: .*Memory"):
        built(spec)


def test_a_plan_of_many_images_looks_at_some(spec, read, monkeypatch):
    monkeypatch.setattr(look, "_MOST", 4)
    found = plan_build(spec)
    assert len(read) == 4
    assert found.images == 9
    assert found.size_bytes == 9 * 3 * 8 * 8 + sum(layer.size_bytes for layer in found.layers)
    assert any(remark.startswith("4 of the 9 images were looked at") for remark in found.remarks)
    assert not Path(spec.run.store).exists()
