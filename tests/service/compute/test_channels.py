"""Networks that take other images than three colours, from the spec to the drawing."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from PIL import Image

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas, build
from circuit_atlas.service.commands.cli import main

MODEL = """
import torch
from torch import nn

def network(channels):
    torch.manual_seed(channels)
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()

def one(): return network(1)
def four(): return network(4)
def five(): return network(5)
"""
SPEC = """
[model]
reference = "channels_of_input:{model}"
[preprocessing]
{preprocessing}
[images]
source = "{source}"
held_out = "odd"
[[layers]]
name = "2"
units = [0, 1]
[circuits]
fractions = [1, 0.5]
[features]
fractions = [1]
negative = false
steps = 24
node_steps = 24
learning_rate = 0.3
size = 16
"""
LEVELS = np.random.default_rng(0).integers(0, 256, (6, 12, 12, 4)).astype(np.uint8)
LEVELS[..., 3] |= 1  # Pillow has no colour where nothing is opaque
ARRAY = np.random.default_rng(1).normal(3, 2, (6, 5, 12, 12)).astype(np.float32)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "channels_of_input.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    for kind, pixels in (("grey", LEVELS[..., 0]), ("rgba", LEVELS)):
        (tmp_path / kind).mkdir()
        for n, image in enumerate(pixels):
            Image.fromarray(image).save(tmp_path / kind / f"{n}.png")
    np.save(tmp_path / "x.npy", ARRAY)
    zarr.create_array(tmp_path / "x.zarr", data=ARRAY, chunks=(4, 5, 12, 12))
    return tmp_path


def spec(folder: Path, model: str, preprocessing: str, source: str) -> BuildSpec:
    text = SPEC.format(model=model, preprocessing=preprocessing, source=source)
    (folder / "spec.toml").write_text(text)
    return BuildSpec.load(folder / "spec.toml")


def expected(model: str, images: torch.Tensor) -> np.ndarray:
    """Sum of the absolute values of each unit's map, (images, units), in float64."""
    import channels_of_input  # type: ignore[import-not-found]

    network = getattr(channels_of_input, model)().double()
    with torch.no_grad():
        return np.asarray(network(images.double()).abs().sum((2, 3)))


def stored(atlas: Atlas) -> np.ndarray:
    columns = []
    for number in (0, 1):
        rows = atlas.layer("2").unit(number).responses().sort_by("image")
        columns.append(rows["response"].to_numpy())
    return np.stack(columns, 1)


GREY = torch.from_numpy(LEVELS[..., 0])[:, None] / 255
RGBA = torch.from_numpy(LEVELS).permute(0, 3, 1, 2) / 255
MEANS = torch.tensor([3.0, 3, 3, 3, 3]).view(5, 1, 1)
CASES = [
    ("one", "resize = [12, 12]\nmean = [0.25]\nstd = [0.5]", "grey", (GREY - 0.25) / 0.5),
    ("one", "resize = [12, 12]", "grey", GREY),
    ("four", "crop = 12\nmean = [0, 0, 0, 0]\nstd = [1, 1, 1, 2]", "rgba", RGBA),
    ("five", "mean = [3, 3, 3, 3, 3]\nstd = [2, 2, 2, 2, 2]", "x.npy", ARRAY),
    ("five", "mean = [3, 3, 3, 3, 3]\nstd = [2, 2, 2, 2, 2]", "x.zarr", ARRAY),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_network_responds_as_to_the_images_themselves(folder: Path, case: int) -> None:
    model, preprocessing, source, given = CASES[case]
    images = given if isinstance(given, torch.Tensor) else (torch.from_numpy(given) - MEANS) / 2
    images = images / torch.tensor([1, 1, 1, 2]).view(4, 1, 1) if source == "rgba" else images

    atlas = build(spec(folder, model, preprocessing, source), executor="local")

    right = expected(model, images)[:, :2]
    assert np.abs(stored(atlas) - right).max() < 1e-5 * right.max()
    assert atlas.images(files=True)["file"].null_count == 0
    circuit = atlas.layer("2").unit(0).circuit(keep=0.5)
    assert circuit.diagram().figure().svg.startswith("<svg")


def test_features_of_grey_images_and_of_others(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build(spec(folder, "one", "resize = [12, 12]", "grey"), executor="local")
    assert main(["features", str(folder / "spec.toml"), "--executor", "local"]) == 0
    capsys.readouterr()
    unit = Atlas.open(folder / "atlas").layer("2").unit(0)
    for made in unit.feature_visualizations():
        assert Image.open(io.BytesIO(made.png)).mode == "L"
        assert made.record.height == 16
    (folder / "atlas").rename(folder / "grey-atlas")
    build(spec(folder, "five", "interpolation = 'bilinear'", "x.npy"), executor="local")
    assert main(["plan", str(folder / "spec.toml")]) == 0
    told = capsys.readouterr().out
    assert "note: the images are arrays of float32, from -" in told
    assert ", 5 channels of 12 x 12\n" in told
    assert main(["features", str(folder / "spec.toml"), "--executor", "local"]) == 2
    assert "images of 1 or 3 channels, and this network takes 5" in capsys.readouterr().err


def test_images_of_other_channels_are_named_where_the_network_takes_none_of_them(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec(folder, "one", "resize = [12, 12]\nmean = [0, 0, 0]\nstd = [1, 1, 1]", "rgba")
    assert main(["plan", str(folder / "spec.toml")]) == 2
    line = capsys.readouterr().err
    assert "the images have 3 channels, and the network's first convolution reads 1: give" in line
