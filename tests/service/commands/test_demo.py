"""The demo and the build commands on the real network and photos, in this process."""

from __future__ import annotations

import json

import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import demo, exits
from circuit_atlas.service.commands.cli import main
from circuit_atlas.service.commands.demo import LAYER, STORE, demo_spec

SPEC = """
[model]
reference = "demo:squeezenet1_1"
[preprocessing]
resize = [64, 64]
[images]
source = "demo:photos"
held_out = "odd"
limit = 4
[[layers]]
name = "features.3.squeeze"
units = [3, 5]
[circuits]
fractions = [0.5, 0.1]
[run]
store = "atlas"
"""


def test_the_demo_builds_16_units_spread_evenly():
    spec = demo_spec()
    assert spec.layers[0].units == tuple(range(0, 128, 8))
    assert demo_spec(units="all").layers[0].units == "all"
    assert spec.circuits.criteria == ("actgrad", "learned", "random")
    assert demo_spec(units="all").circuits.criteria == ("actgrad", "random")
    assert len(spec.circuits.fractions) == 12


def _under(text: str, title: str) -> list[str]:
    """The indented lines under a line that begins with the title."""
    lines = text.splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith(title)) + 1
    return lines[start : start + 3]


def test_the_demo_ends_with_what_a_person_can_read(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "STEPS", 10)
    assert main(["demo", "--units", "1", "--executor", "local"]) == 0
    out, err = capsys.readouterr()
    assert "1/1 units" in err
    assert "Most faithful: unit " in out
    assert "Least faithful: unit " in out
    assert "of 27,872 kernels" in out
    assert "imagenet_" in out
    assert "the circuit by\nactgrad that keeps 10% of its kernels" in out
    assert "-0.00" not in out
    medians = {line.split()[0]: float(line.split()[1]) for line in _under(out, "Median r")}
    assert medians["learned"] > medians["actgrad"] + 0.2
    assert f"circuit-atlas open {STORE}" in out
    # The lines to type next work as they stand.
    lines = [line.split()[1:] for line in out.splitlines() if "circuit-atlas show" in line]
    show, one, learned = lines
    assert main(show) == 0
    assert main(learned) == 0
    assert main(one) == 0
    assert "largest responses" in capsys.readouterr().out
    best = Atlas.open("circuit-atlas-demo").layer(LAYER).unit(int(one[-1]))
    assert len(best.circuit(keep=0.1)) == 2787
    python = [line.strip() for line in out.split("or in Python:")[1].splitlines() if line.strip()]
    *statements, expression = python
    scope: dict[str, object] = {}
    exec("\n".join(statements), scope)
    assert eval(expression, scope).num_rows == 2787


def test_plan_and_build_do_what_is_missing(tmp_path, capsys):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    assert main(["plan", str(spec), "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert [layer["units"] for layer in planned["layers"]] == [2]
    assert planned["size_bytes"] > 0
    assert not (tmp_path / "atlas").exists()

    build = ["build", str(spec), "--executor", "local", "--json"]
    assert main([*build, "--units", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1
    assert main(["plan", str(spec)]) == 0
    told = capsys.readouterr().out.splitlines()[:2]
    assert [line.split()[1] for line in told] == ["units", "1"]
    assert "after relu, features.3.squeeze_activation" in told[1]
    assert main(build) == 0
    summary = json.loads(capsys.readouterr().out)
    assert (summary["done"], summary["skipped"], summary["failed"]) == (1, 1, 0)
    assert main(["status", str(tmp_path / "atlas")]) == 0


def test_another_spec_into_the_same_atlas_is_refused(tmp_path, capsys):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    assert main(["build", str(spec), "--executor", "local", "--units", "3"]) == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = tmp_path / "other.toml"
    other.write_text(SPEC.replace("[0.5, 0.1]", "[0.5, 0.2]"))
    capsys.readouterr()
    for command in (["plan", str(other)], ["build", str(other), "--executor", "local"]):
        assert main(command) == exits.STORE
        err = capsys.readouterr().err
        assert "circuits.fractions [0.5,0.1] -> [0.5,0.2]" in err
    vector = [1, -1, *[0] * 14]
    other.write_text(SPEC.replace("units =", f"directions = {{edge = {vector}}}\nunits ="))
    assert main(["plan", str(other)]) == exits.STORE
    assert "has no directions; given: 'edge' (added 'edge')" in capsys.readouterr().err
    other.unlink()
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


@pytest.mark.ray
def test_a_build_on_a_ray_of_its_own(tmp_path, capfd):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    assert main(["build", str(spec), "--json"]) == 0
    out, err = capfd.readouterr()
    assert json.loads(out)["done"] == 2
    assert "Traceback" not in err
    assert Atlas.open(tmp_path / "atlas").status()["done"].to_pylist() == [2]
