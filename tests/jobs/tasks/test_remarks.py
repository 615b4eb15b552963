"""What a build is told of before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.plan import resolve
from tests.jobs.builds import write_noise

MODEL = """
import torch
from torch import nn

def network(bias):
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
    nn.init.constant_(net[2].bias, bias)
    return net

def low():
    return network(-3.0)

def high():
    return network(3.0)

def up():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ConvTranspose2d(4, 4, 2), nn.Conv2d(4, 4, 3))
"""


def test_what_stays_whole_in_every_circuit_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "remarked_whole.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=12)
    build = resolve(
        BuildSpec.from_values(
            {
                "model": {"reference": "remarked_whole:up"},
                "preprocessing": {"resize": [12, 12]},
                "images": {"source": str(tmp_path / "pictures")},
                "layers": [{"name": "0"}, {"name": "1"}, {"name": "2"}],
                "run": {"store": str(tmp_path / "atlas")},
            }
        )
    )
    (remark,) = (each for each in build.remarks if "no candidates" in each)
    whole = "layer '2': the weights of the transposed convolution '1' are no candidates"
    assert remark.startswith(whole)
    assert remark.endswith("; likewise '1'"), "what layers share is told once"


@pytest.mark.parametrize(
    ("function", "activation", "told"),
    [("low", "pre", True), ("low", "post", False), ("high", "pre", False)],
)
def test_a_response_that_is_mostly_negative_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, function: str, activation: str, told: bool
) -> None:
    (tmp_path / "remarked.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=4, side=12)
    build = resolve(
        BuildSpec.from_values(
            {
                "model": {"reference": f"remarked:{function}"},
                "preprocessing": {"resize": [12, 12]},
                "images": {"source": str(tmp_path / "pictures")},
                "layers": [{"name": "2", "activation": activation}],
                "run": {"store": str(tmp_path / "atlas")},
            }
        )
    )
    start = "layer '2' with activation = \"pre\": 100% of its response is negative"
    code, *others = build.remarks
    assert code.startswith("the model comes of code that was run: /")
    assert code.endswith("/remarked.py")
    assert [remark.startswith(start) for remark in others] == [True] * told
    (layer,) = build.layers
    assert (layer.activation, layer.after) == (
        activation,
        "relu, 3" if activation == "post" else "",
    )
