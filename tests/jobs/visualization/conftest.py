"""A network whose units are odd to make pictures of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from tests.jobs.builds import write_noise

MODEL = '''
import torch
from torch import nn

class Net(nn.Module):
    """Units of `last`: 0 an edge; 1 the same everywhere; 2 how bright it is. The model takes
    pictures of 24 x 24 pixels alone."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4 * 24 * 24, 2)
        with torch.no_grad():
            self.first.weight.zero_(); self.first.bias.zero_()
            self.first.weight[0, 0] = torch.tensor([[-1., 0, 1]] * 3)
            self.first.weight[1, :, 1, 1] = 1.0
            self.last.weight.zero_(); self.last.bias.fill_(0.5)
            self.last.weight[0, 0] = 1.0
            self.last.weight[2, 1] = 1.0

    def forward(self, x):
        y = self.last(self.first(x))
        return self.head(y.flatten(1))

def network():
    return Net()
'''


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., BuildSpec]:
    """Spec of a network with odd units; pictures of noise, and a white one."""
    (tmp_path / "feature_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=3, side=24)
    Image.new("RGB", (24, 24), "white").save(tmp_path / "pictures" / "white.png")

    def spec(**features: Any) -> BuildSpec:
        return BuildSpec.from_values(
            {
                "model": {"reference": "feature_models:network"},
                "preprocessing": {"resize": [24, 24]},
                "images": {"source": str(tmp_path / "pictures"), "held_out": 0},
                "layers": [{"name": "last", "directions": {"mixed": [1, 0, 1, 0]}}],
                "circuits": {"fractions": [1, 0.5], "top_images": 2},
                "features": {"steps": 4, "node_steps": 4, "tries": 2, **features},
                "run": {"store": str(tmp_path / "atlas")},
            }
        )

    return spec
