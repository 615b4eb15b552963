"""A build from Python: the atlas, its events, and what the door offers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from circuit_atlas import service
from circuit_atlas.service import (
    AtlasError,
    BuildSpec,
    Finished,
    Planned,
    SpecError,
    TaskDone,
    TaskStarted,
    WorkersReady,
    build,
)
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import errors
from tests.jobs.builds import write_noise

MODEL = """
from torch import nn

def network():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
"""
SPEC = """
[model]
reference = "door_build_models:network"
[preprocessing]
resize = [9, 9]
[images]
source = "pictures"
[[layers]]
name = "2"
units = [0, 1]
[circuits]
fractions = [0.5]
[run]
store = "atlas"
units_per_task = 1
"""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "door_build_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=9)
    (tmp_path / "spec.toml").write_text(SPEC)
    return tmp_path / "spec.toml"


def test_a_build_gives_the_atlas_and_tells_how_it_goes(spec: Path) -> None:
    events: list[object] = []

    atlas = build(spec, executor="local", on_event=events.append)

    assert atlas.location == str(spec.parent / "atlas")
    assert atlas.status().to_pylist()[0]["done"] == 2
    assert len(atlas.layer("2").unit(1).circuit(keep=0.5)) > 0
    kinds = [type(event) for event in events]
    assert kinds == [Planned, WorkersReady, *[TaskStarted, TaskDone] * 2, Finished]
    done = [event for event in events if isinstance(event, TaskDone)]
    assert [receipt.key.unit for event in done for receipt in event.receipts] == [0, 1]
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.summary.done, end.summary.skipped) == (2, 0)


def test_a_second_build_does_what_is_missing(spec: Path, tmp_path: Path) -> None:
    first = build(spec, executor="local", store=tmp_path / "other", units=[0])
    assert first.location == str(tmp_path / "other")
    events: list[object] = []

    second = build(
        BuildSpec.load(spec), executor="local", store=first.location, on_event=events.append
    )

    assert second.status().to_pylist()[0]["done"] == 2
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.summary.done, end.summary.skipped) == (1, 1)
    with pytest.raises(SpecError, match="no spec at"):
        build(tmp_path / "none.toml")


def test_some_units_are_built_at_a_time(spec: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec.write_text(SPEC.replace('name = "2"', 'name = "*"'))

    def printed(*arguments: str) -> str:
        assert main([*arguments, str(spec)]) == 0
        return capsys.readouterr().out

    planned = printed("plan", "--max-units", "3")
    assert "\n3 units of 2 layers in 3 tasks\n1 more missing unit is left\n" in planned
    told = printed("build", "--executor", "local", "--max-units", "3")
    assert told.startswith("units: 3 done, 1 left; ")
    assert json.loads(printed("plan", "--json"))["layers"][1]["units"] == 1
    atlas = build(spec, executor="local", max_units=3)
    assert atlas.status()["done"].to_pylist() == [2, 2]
    assert json.loads(printed("build", "--executor", "local", "--json"))["left"] == 0


def test_what_a_listener_raises_ends_the_build(spec: Path) -> None:
    def stop(event: object) -> None:
        if isinstance(event, TaskDone):
            raise LookupError("enough")

    with pytest.raises(LookupError, match="enough"):
        build(spec, executor="local", on_event=stop)

    assert service.Atlas.open(spec.parent / "atlas").status().to_pylist()[0]["done"] == 1


def test_the_door_offers_every_error_and_whatever_it_names() -> None:
    def tree(root: type[AtlasError]) -> set[type[AtlasError]]:
        return {root}.union(*(tree(child) for child in root.__subclasses__()))

    ours = {error for error in tree(AtlasError) if error.__module__ == errors.__name__}
    assert {error.__name__ for error in ours} <= set(service.__all__)
    assert all(getattr(service, error.__name__) is error for error in ours)
    assert all(getattr(service, name) is not None for name in service.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'bild'"):
        _ = service.bild


def test_reading_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys\n"
        "from circuit_atlas.service import Atlas, AtlasError, Circuit\n"
        "assert not {'torch', 'ray', 'pydantic', 'circuit_atlas.jobs'} & sys.modules.keys()\n"
        "from circuit_atlas.service import build, find_circuit\n"
        "assert 'ray' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_plan_and_build_say_which_images_they_do_not_use(
    spec: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = spec.parent / "pictures"
    Image.new("RGB", (9, 9)).save(pictures / "z.tga")
    for name in ("torn.jpg", "a.heic", "b.heic"):
        (pictures / name).write_bytes(b"torn")

    assert main(["plan", str(spec)]) == 0
    out = capsys.readouterr().out
    assert "\n4 images, 1 more cannot be read; " in out
    assert "; passed over: 2 .heic, 1 .tga\n" in out
    assert main(["plan", str(spec), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed_over"] == {".heic": 2, ".tga": 1}

    for _ in ("built", "there already"):
        assert main(["build", str(spec), "--executor", "local"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last.endswith(
            "; 1 image left out, which cannot be read; passed over: 2 .heic, 1 .tga"
        )
    assert main(["status", str(spec.parent / "atlas")]) == 0
    assert "\n1 image left out, which cannot be read\n" in capsys.readouterr().out
