"""`repair`, `verify` and `delete-set-aside`, as typed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import heartbeat, layer_paths, layout
from circuit_atlas.storage_schema.heartbeat import Heartbeat
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader


@pytest.fixture
def damaged(location: Path, tmp_path: Path) -> Path:
    """A copy of the small atlas with a cut chunk of unit 1 of conv2."""
    folder = tmp_path / "atlas"
    shutil.copytree(location, folder)
    spoilt(folder).write_bytes(b"cut")
    return folder


def spoilt(folder: Path) -> Path:
    return folder / Reader(folder).commits("conv2")[1].objects[0].path


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_verify_names_the_command_and_it_puts_the_atlas_right(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", str(damaged)]) == 3
    assert capsys.readouterr().out.endswith(f"to put it right: circuit-atlas repair {damaged}\n")
    record = damaged / layer_paths.commit("conv2", 1)
    assert main(["repair", str(damaged)]) == 0
    told = capsys.readouterr().out.splitlines()
    (aside,) = (damaged / layout.SET_ASIDE).iterdir()
    assert told[0].startswith(f"torn: {damaged}/layers/conv2/")
    assert told[1].startswith(f"set aside in {aside}: 2 objects, ")
    assert told[2] == "the next `circuit-atlas build SPEC` computes unit 1 of conv2 again"
    assert told[3:] == [f"{damaged}: 1 object damaged, repaired"]
    assert not record.exists()
    assert (aside / layer_paths.commit("conv2", 1)).exists()
    assert sorted(Atlas.open(damaged).reader.commits("conv2")) == [0, 4]
    assert main(["verify", str(damaged)]) == 0
    assert " are set aside by repairs\n" in capsys.readouterr().out
    assert main(["repair", str(damaged)]) == 0
    assert capsys.readouterr().out == f"{damaged}: whole, nothing to do\n"


def test_a_dry_run_changes_nothing(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = files(damaged)
    assert main(["repair", str(damaged), "--dry-run"]) == 0
    told = capsys.readouterr().out
    assert "to set aside: layers/conv2/commits/1.json, layers/conv2/" in told
    assert told.endswith(f"{damaged}: 1 object damaged; nothing was changed\n")
    assert main(["repair", str(damaged), "--dry-run", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["redone"] == [{"what": "unit", "layer": "conv2", "number": 1}]
    assert facts["set_aside"][0] == layer_paths.commit("conv2", 1)
    assert files(damaged) == before


def test_it_says_where_workers_are_at_work(
    damaged: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    heartbeat.write(open_store(damaged), Heartbeat("a", "units", 0.0, 0.0, 0.0, 1, 0, 0, None))
    assert main(["repair", str(damaged)]) == 0
    assert "1 worker is at work on this atlas: what they store meanwhile stays" in (
        capsys.readouterr().out
    )


def test_what_was_set_aside_stays_a_day(damaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", str(damaged)]) == 0
    assert main(["delete-set-aside", str(damaged)]) == 0
    assert "0 deleted, 0 B; 1 younger than 24 hours stay" in capsys.readouterr().out
    assert main(["delete-set-aside", str(damaged), "--older-than", "0"]) == 0
    assert ": 2 objects are deleted" in capsys.readouterr().out
    assert not any((damaged / layout.SET_ASIDE).rglob("*.json"))


def test_what_is_served_is_refused(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["repair", address]) == 3
    assert "is read-only; give its folder" in capsys.readouterr().err
    assert main(["repair", address, "--dry-run"]) == 0


@pytest.mark.parametrize("way", ["cut", "deleted"])
def test_without_its_header_an_atlas_needs_the_spec(
    damaged: Path, capsys: pytest.CaptureFixture[str], way: str
) -> None:
    header = damaged / layout.HEADER
    header.write_bytes(header.read_bytes()[:50])
    if way == "deleted":
        header.unlink()
    before = files(damaged)
    assert main(["repair", str(damaged)]) == 3
    told = capsys.readouterr().err
    assert f"run `circuit-atlas repair {damaged} --spec SPEC`" in told
    assert files(damaged) == before


def test_a_folder_without_an_atlas_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["repair", str(tmp_path)]) == 3
    assert "holds no atlas" in capsys.readouterr().err


def test_a_repair_on_an_object_store(on_s3: Atlas) -> None:
    """Copied, then deleted: the store has no renaming."""
    objects = on_s3.reader.objects
    path = Reader(objects).commits("conv3")[0].objects[0].path
    whole, record = objects.get(path), objects.get(layer_paths.commit("conv3", 0))
    objects.put(path, b"cut")
    try:
        assert main(["repair", objects.location]) == 0
        assert not objects.exists(path)
        aside = [e.path for e in objects.list(layout.SET_ASIDE)]
        assert sorted(aside) == sorted(
            f"{layout.SET_ASIDE}/{aside[0].split('/')[1]}/{p}"
            for p in (path, layer_paths.commit("conv3", 0))
        )
    finally:
        objects.delete([entry.path for entry in objects.list(layout.SET_ASIDE)])
        objects.put(path, whole)
        objects.put(layer_paths.commit("conv3", 0), record)
