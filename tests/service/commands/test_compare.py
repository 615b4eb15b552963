"""`circuit-atlas compare`: a small build, its report, and what cannot be compared."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from circuit_atlas.service import Atlas, build
from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import main
from tests.jobs.builds import write_noise

MODEL = '''
import torch
from torch import nn

def network():
    """Unit 2 is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3))
    with torch.no_grad():
        model[2].weight[2] = 0
    return model
'''
SPEC = """
[model]
reference = "compare_models:network"
[preprocessing]
resize = [9, 9]
[images]
source = "pictures"
held_out = "odd"
[[layers]]
name = "2"
[circuits]
criteria = ["actgrad", "random"]
fractions = [1, 0.5, 0.2]
[run]
store = "atlas"
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("compare")
    (folder / "compare_models.py").write_text(MODEL)
    write_noise(folder / "pictures", count=8, side=9)
    (folder / "spec.toml").write_text(SPEC)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield folder / "spec.toml"


def test_an_atlas_is_built_and_compared(spec: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["compare", str(spec), "--executor", "local", "--draws", "50"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "units: 2 done, 1 dead" in out
    assert "note: Units left out: 1 dead (the response never changes)." in out
    folder = spec.parent / "atlas-comparison"
    assert f"written: {folder / 'comparison.html'}, and 9 files beside it" in out
    found = Atlas.open(spec.parent / "atlas").compare_criteria(draws=50)
    written = (folder / "comparison.md").read_text()
    start, end = written.index("## Ground truth"), written.index("## How this is measured")
    assert written[:start] + written[end:] == found.to_markdown()
    # A unit whose planted circuit activation x gradient finds whole, and where it is one by chance.
    (row,) = re.findall(r"^\| disjoint \| 0 \|  \| \d+ \| ([^|]*) \| ([^|]*) \|", written, re.M)
    assert row[0] == "1.00, 100%"
    assert float(row[1].split(",")[0]) < 0.9
    assert "<h2>Ground truth</h2>" in (folder / "comparison.html").read_text()
    # What it built has all that intervals over images and cost need.
    assert found.table["low_images"].null_count == 0
    assert found.cost["units"].to_pylist() == [2, 2]

    # The same spec goes on with the atlas, without sums of single images.
    assert build(spec, executor="local").status()["done"].to_pylist() == [2]
    atlas = str(spec.parent / "atlas")
    out_dir = spec.parent / "elsewhere"
    assert main(["compare", atlas, "--out", str(out_dir), "--json", "--draws", "50"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["build"] is None
    assert facts["layers"][0]["areas"] == found.areas.to_pylist()
    assert sorted(facts["files"]) == sorted(str(path) for path in out_dir.iterdir())


def test_a_layer_without_a_circuit_is_left_out_and_told_of(spec, capsys):
    other = spec.parent / "partly.toml"
    layers = 'name = "0"\nunits = [0]\n[[layers]]\nname = "[2-9]"\nunits = [2]'
    other.write_text(SPEC.replace('name = "2"', layers).replace('"atlas"', '"partly"'))
    build(other, executor="local")
    for what in (
        [str(other), "--executor", "local", "--no-ground-truth"],
        [str(other.parent / "partly")],
    ):
        assert main(["compare", *what, "--json"]) == 0
        facts = json.loads(capsys.readouterr().out)
        assert [each["subject"]["layer"] for each in facts["layers"]] == ["0"]
        assert facts["left_out"] == ["2"]
    assert main(["compare", *what]) == 0
    told = "Layers without a circuit, which are not compared: '2'."
    assert f"note: {told}" in capsys.readouterr().out
    assert told in (other.parent / "partly-comparison" / "comparison.md").read_text()


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ('["actgrad", "random"]', [], "circuits.criteria names 'snip' alone: name two or more"),
        (None, ["--units", "9"], "unit 9 of layer '2' is out of range"),
        (None, ["--draws", "0"], "0 is not in the range"),
        (None, ["--ablation", "mean"], "--ablation 'mean' is none of circuits.ablation: it names"),
    ],
)
def test_what_cannot_be_compared_is_one_line(spec, capsys, change, arguments, message):
    text = SPEC if change is None else SPEC.replace(change, '["snip"]')
    other = spec.parent / "other.toml"
    other.write_text(text)
    code = main(["compare", str(other), "--executor", "local", "--plain-progress", *arguments])
    told = capsys.readouterr().err.splitlines()[-1]
    assert code == exits.BAD_INPUT
    assert told.startswith("circuit-atlas: error:")
    assert message in told


def test_an_atlas_is_compared_as_it_is(location, capsys):
    assert main(["compare", "nowhere"]) == exits.BAD_INPUT
    assert "no spec and no atlas at 'nowhere': give a TOML file, or" in capsys.readouterr().err
    given = ["--units", "0", "--executor", "local"]
    assert main(["compare", str(location), *given]) == exits.BAD_INPUT
    refused = "is an atlas, which is compared as it is: give no --units and no --executor"
    assert refused in capsys.readouterr().err
    assert main(["compare", str(location), "--out", ""]) == exits.BAD_INPUT
    assert "--out is empty: give a folder, or leave it out" in capsys.readouterr().err
    occupied = location.parent / "file"
    occupied.write_text("")
    assert main(["compare", str(location), "--out", str(occupied)]) == exits.STORE
    assert "the report cannot be written to" in capsys.readouterr().err
