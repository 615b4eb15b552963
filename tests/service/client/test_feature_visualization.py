"""Feature visualizations on the command line, on the real network and photos, in this process."""

from __future__ import annotations

import json

import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import demo, exits
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema.errors import QueryError, WriteError

LAYER = "features.3.squeeze"
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
units = [3]
[circuits]
fractions = [0.5, 0.3]
[features]
steps = 4
nodes = false
tries = 1
[run]
store = "atlas"
"""


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "spec.toml"
    path.write_text(SPEC)
    return path


def test_features_of_what_is_built(spec, capsys, tmp_path):
    features = ["features", str(spec), "--executor", "local", "--json"]
    assert main(features) == exits.STORE
    assert "does not exist: give the folder or URL of an atlas" in capsys.readouterr().err
    assert main(["build", str(spec), "--executor", "local"]) == 0
    capsys.readouterr()
    assert main(features) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["done"] == 1
    assert "1/1 units" in err
    atlas = Atlas.open(tmp_path / "atlas")
    with pytest.raises(QueryError, match="has a convolution 'features\\.99'"):
        atlas.feature_visualizations("features.99", 0)
    with pytest.raises(QueryError, match="has no channel 64: it has 64, from 0"):
        atlas.feature_visualizations("features.0", 64)
    unit = atlas.layer(LAYER).unit(3)
    images = unit.feature_visualizations()
    assert [image.variant for image in images] == [
        "positive",
        "negative",
        "positive.actgrad.0.3",
        "negative.actgrad.0.3",
    ]
    assert images[0].save(tmp_path / "own.png") == tmp_path / "own.png"
    assert (tmp_path / "own.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(WriteError, match=r"cannot be written \(No such file"):
        images[0].save(tmp_path / "missing" / "own.png")
    for channel in (None, 1.5, "1"):
        with pytest.raises(QueryError, match=r"channel=.* is no whole number"):
            atlas.feature_visualizations("features.0", channel)
    assert main(features[:-1]) == 0
    assert "units: 1 stored before" in capsys.readouterr().out
    assert main(["verify", str(tmp_path / "atlas")]) == 0


def test_a_picture_that_shows_nothing_ends_with_exit_code_1(spec, capsys, tmp_path):
    assert main(["build", str(spec), "--executor", "local"]) == 0
    spec.write_text(SPEC.replace("steps = 4", "steps = 1\nlearning_rate = 1e-9"))
    capsys.readouterr()
    assert main(["features", str(spec), "--executor", "local"]) == exits.UNIT_FAILED
    out = capsys.readouterr().out
    assert "units: 1 failed" in out
    assert "visualization 'positive' of unit 3 of 'features.3.squeeze'" in out
    assert "all but grey" in out
    assert main(["status", str(tmp_path / "atlas")]) == exits.UNIT_FAILED
    told = capsys.readouterr().out.partition("feature visualizations\n")[2].splitlines()
    assert told[1].split() == [LAYER, "unit", "1", "0", "1", "0", "0", "4"]
    assert told[2].startswith(
        f"  failed: {LAYER} unit 3: unit: visualization 'positive' of unit 3 of"
    )
    assert told[4].startswith(
        "feature visualizations: 1 failed; run the command that asked for them again"
    )


def test_the_demo_makes_them_when_asked(monkeypatch, tmp_path, capsys):
    """The demo with a layer that is quick."""
    monkeypatch.setattr(demo, "LAYER", LAYER)
    small = BuildSpec.from_toml(SPEC, folder=tmp_path)
    monkeypatch.setattr(demo, "demo_spec", lambda **_: small)
    call = ["demo", "--features", "--executor", "local", "--store", str(tmp_path / "atlas")]
    assert main(call) == 0
    out = capsys.readouterr().out
    assert out.count("units: 1 done") == 2
    assert "Most faithful: unit 3" in out
    assert len(Atlas.open(tmp_path / "atlas").layer(LAYER).unit(3).feature_visualizations()) == 4
    assert main([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [told[name]["skipped"] for name in ("build", "features")] == [1, 1]
