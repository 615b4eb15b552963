"""`circuit-atlas extract` finds the model, writes the circuit and tells its receipt."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from circuit_atlas.jobs.network.load import load_model
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.service import build
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.commands.exits import BAD_INPUT
from tests.jobs.builds import write_noise

MODEL = """
from torch import nn

def network(channels):
    return nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.Sigmoid(), nn.Conv2d(channels, 3, 3, padding=1)
    )
"""
SPEC = """
[model]
reference = "extract_models:network"
arguments = { channels = 5 }
[preprocessing]
resize = [9, 9]
[images]
source = "pictures"
[[layers]]
name = "2"
units = [1]
directions = { apart = [1.0, 0.0, -0.5] }
[circuits]
criteria = ["actgrad", "magnitude"]
fractions = [0.5]
[run]
store = "atlas"
"""


@pytest.fixture(scope="module")
def atlas(tmp_path_factory: pytest.TempPathFactory) -> Atlas:
    folder: Path = tmp_path_factory.mktemp("extract")
    (folder / "extract_models.py").write_text(MODEL)
    write_noise(folder / "pictures", count=4, side=9)
    (folder / "spec.toml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        return build(folder / "spec.toml", executor="local")


@pytest.mark.parametrize("unit", ["1", "apart"])
def test_a_circuit_is_written_with_its_receipt(atlas, unit, tmp_path, capsys):
    path = tmp_path / "circuit.pt2"
    line = ["extract", atlas.location, "2", unit, "--criterion", "magnitude", "--keep", ".5"]
    assert main([*line, "--output", str(path), "--json", "--trust-code"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(path)
    assert told["receipt"]["unit"] == unit
    circuit = atlas.layer("2").unit(unit).circuit(keep=0.5, criterion="magnitude")
    assert told["receipt"]["kernels"] == len(circuit)
    spec = ModelSpec(reference="extract_models:network", arguments={"channels": 5})
    images = torch.randn((3, 3, 9, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        output = circuit.apply_to(load_model(spec).module)(images)
    wanted = output[:, 1] if unit == "1" else output[:, 0] - output[:, 2] / 2
    found = torch.export.load(path).module()(images)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5 * float(wanted.abs().max()))


def test_what_is_printed(atlas, tmp_path, capsys):
    path = tmp_path / "circuit.pt2"
    line = ["extract", atlas.location, "2", "1", "--output", str(path)]
    assert main(line) == BAD_INPUT
    assert "names the model 'extract_models:network': a function" in capsys.readouterr().err
    assert not path.exists()
    assert main([*line, "--trust-code"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "2/1 of extract_models:network, zero ablation"
    assert lines[-1] == f"written to {path}"
    assert path.stat().st_size > 0
    assert main(["extract", atlas.location, "2", "1", "--output", "circuit.zip"]) == BAD_INPUT
    assert "end its name with '.pt2' or '.onnx'" in capsys.readouterr().err


def test_an_atlas_of_mean_ablation_alone_has_a_note(atlas, tmp_path, monkeypatch, capsys):
    folder = Path(atlas.location).parent
    monkeypatch.syspath_prepend(folder)
    changed = SPEC.replace("[0.5]", '[0.5]\nablation = ["mean"]')
    spec = BuildSpec.from_toml(changed.replace('"atlas"', '"mean"'), folder=folder)
    build(spec, executor="local")
    for location, note in ((atlas.location, False), (str(folder / "mean"), True)):
        path = str(tmp_path / "circuit.pt2")
        line = ["extract", location, "2", "1", "--output", path, "--json", "--trust-code"]
        assert main(line) == 0
        out, err = capsys.readouterr()
        assert json.loads(out)["receipt"]["ablation"] == "zero"
        assert err.startswith("note: dropped kernels are zero here, and their means in") == note
