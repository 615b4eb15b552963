"""`find`, `export` and `open`, and how wide `show` is."""

from __future__ import annotations

import json
import os

import numpy as np
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import demo, exits, server, terminal
from circuit_atlas.service.commands.cli import main


def test_find_lists_what_has_such_a_name(location, capsys):
    assert main(["find", str(location), "DOG"]) == 0
    assert "dog <small>" in capsys.readouterr().out
    assert main(["find", str(location), "dog", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == Atlas.open(location).search("dog").to_pylist()
    assert main(["find", str(location), "zebra"]) == 0
    assert "has a name like 'zebra'" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["units", "summary", "faithfulness", "responses", "subfeatures"])
def test_tables_are_exported_as_the_client_has_them(location, tmp_path, what, capsys):
    table = getattr(Atlas.open(location)["conv3"], what)()
    for ending in ("parquet", "csv"):
        file = tmp_path / f"table.{ending}"
        assert main(["export", str(location), "conv3", what, "--output", str(file)]) == 0
        assert str(file) in capsys.readouterr().out
    assert pq.read_table(tmp_path / "table.parquet").equals(table.to_arrow())
    assert arrow_csv.read_csv(tmp_path / "table.csv").column_names == table.column_names


def test_a_unit_is_exported(location, tmp_path):
    unit = Atlas.open(location)["conv3"][1]
    circuit = unit.circuit(0.5)
    for what, ending in (("kernels", "parquet"), ("top-images", "csv"), ("masks", "npz")):
        file = str(tmp_path / f"{what}.{ending}")
        line = ["export", str(location), "conv3", what, "1", "--keep", ".5", "--output", file]
        assert main(line) == 0
    assert pq.read_table(tmp_path / "kernels.parquet").equals(circuit.kernels().to_arrow())
    assert len(arrow_csv.read_csv(tmp_path / "top-images.csv")) == len(unit.top_images())
    with np.load(tmp_path / "masks.npz") as masks:
        assert {name: mask.tolist() for name, mask in masks.items()} == {
            name: mask.tolist() for name, mask in circuit.masks().items()
        }


def test_arrays_of_a_layer_say_what_their_axes_are(location, tmp_path):
    layer = Atlas.open(location)["conv3"]
    for what, wanted in (("masks", layer.masks()), ("scores", layer.scores())):
        file = str(tmp_path / f"{what}.npz")
        assert main(["export", str(location), "conv3", what, "--output", file]) == 0
        with np.load(file, allow_pickle=False) as found:
            assert np.array_equal(found[what], np.asarray(wanted), equal_nan=what == "scores")
            assert found["units"].tolist() == wanted.units.tolist()
            names = found["convolutions"][found["convolution"]].tolist()
            assert names == layer.kernels()["convolution"].to_pylist()


def test_a_figure_is_exported(location, tmp_path):
    file = tmp_path / "figure.svg"
    assert main(["export", str(location), "conv3", "figure", "0", "--output", str(file)]) == 0
    assert "<svg" in file.read_text()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["kernels", "--output", "k.csv"], "'kernels' is of one unit"),
        (["units", "1", "--output", "u.csv"], "'units' is of a whole layer"),
        (["scores", "1", "--output", "s.npz"], "'scores' is of a whole layer"),
        (["masks", "--output", "m.csv"], "end 'm.csv' with .npz"),
        (["units", "--output", "u.xlsx"], "'u.xlsx' is no kind of file"),
        (["unit", "--output", "u.csv"], "'unit' is not one of"),
        (["units", "--output", "."], "'.' names no file: give one in a folder"),
        (["masks", "--output", ""], "names no file: give one in a folder"),
    ],
)
def test_what_cannot_be_exported_is_said(location, tmp_path, monkeypatch, line, message, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(location), "conv3", *line]) == exits.BAD_INPUT
    assert message in capsys.readouterr().err
    assert not os.listdir(tmp_path)


def test_open_serves_to_this_machine_and_shows_it(location, monkeypatch, capsys):
    asked = {}

    def serve(atlas, **given):
        asked.update(given, atlas=atlas)
        given["on_start"]("http://127.0.0.1:1234")

    monkeypatch.setattr(server, "serve", serve)
    assert main(["open", str(location)]) == 0
    assert asked["open_browser"]
    assert (asked["host"], asked["port"], asked["allow_hosts"]) == ("127.0.0.1", 0, ())
    assert "is at http://127.0.0.1:1234" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [["show"], ["show", "conv3"], ["show", "conv3", "0"], ["status"], ["find", "conv"]]
)
@pytest.mark.parametrize("columns", [40, 72])
def test_nothing_is_wider_than_the_terminal(location, monkeypatch, capsys, line, columns):
    monkeypatch.setattr(terminal, "width", lambda: columns)
    folder = location.parent
    monkeypatch.chdir(folder)
    command, *arguments = line
    assert main([command, location.name, *arguments]) in (0, exits.UNIT_FAILED)
    lines = capsys.readouterr().out.splitlines()
    assert lines
    assert [each for each in lines if len(each) > columns] == []


def test_a_pipe_gets_all_of_it(monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: False, raising=False)
    assert terminal.width() is None


def test_the_demo_names_the_extra_that_has_all_it_needs(monkeypatch, capsys):
    def lacks(**_given):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(demo, "demo_spec", lacks)
    assert main(["demo"]) == exits.BAD_INPUT
    assert "pip install 'circuit-atlas[demo]'" in capsys.readouterr().err


def test_completion_offers_the_commands(capsys, monkeypatch):
    monkeypatch.setenv("_CIRCUIT_ATLAS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "circuit-atlas ex")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert main() == 0
    assert "export" in capsys.readouterr().out
