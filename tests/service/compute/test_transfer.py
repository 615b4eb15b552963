"""Circuits of some images on others, held against a network with the others' kernels at zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service import (
    AtlasError,
    ImageError,
    QueryError,
    SpecError,
    find_circuit,
    transfer,
    transfer_in,
)
from tests.jobs.builds import write_noise

KEEP = 0.5
MODEL = '''
import torch
from torch import nn

def network():
    """Unit 2 of layer 4 is dead."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 6, 3), nn.ReLU(), nn.Conv2d(6, 3, 3)
    )
    model[4].weight.data[2] = 0
    return model.eval()
'''


def network() -> nn.Module:
    names: dict[str, Any] = {}
    exec(MODEL, names)
    module: nn.Module = names["network"]()
    return module


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(7, 3, 10, 10, generator=torch.Generator().manual_seed(1))


def r(model: nn.Module, circuit: nn.Module, images: Tensor) -> float:
    """Pearson r of unit 1 in both, in float64."""
    with torch.no_grad():
        full, kept = (each.double()(images.double())[:, 1].flatten() for each in (model, circuit))
    return float(np.corrcoef(full.numpy(), kept.numpy())[0, 1])


def test_a_circuit_of_some_images_is_tested_on_the_other_half(images):
    found = transfer(
        network(), images, layer="4", unit=1, keep=KEEP, numbers=[1, 3], repeats=2, seed=4
    ).to_pylist()
    assert [(row["repeat"], row["half"], row["images"]) for row in found] == [
        (repeat, half, m) for repeat in (0, 1) for half in (0, 1) for m in (1, 3)
    ]
    order = np.random.default_rng(4).permutation(7)
    halves = [order[:3].tolist(), order[3:6].tolist()]  # the seventh takes no part
    chosen = {
        (half, m): find_circuit(
            network(), images[ids[:m]], layer="4", unit=1, keep=KEEP, self_check=False
        )
        for half, ids in enumerate(halves)
        for m in (1, 3)
    }
    for row, ((half, m), circuit) in zip(found[:4], chosen.items(), strict=True):
        pruned = circuit.apply_to(network())
        assert row["kernels"] == len(circuit)
        assert row["iou"] == pytest.approx(circuit.iou(chosen[1 - half, m]))
        for key, ids in (("chosen", halves[half][:m]), ("tested", halves[1 - half])):
            assert row[key] == pytest.approx(r(network(), pruned, images[ids]), abs=1e-5)


def test_the_numbers_of_images_double_up_to_half_of_them(images):
    found = transfer(network(), images, layer="4", unit=1, repeats=1, self_check=False)
    assert sorted(set(found["images"].to_pylist())) == [1, 2, 3]
    assert found.column_names == [
        *("repeat", "half", "images", "kernels", "chosen", "tested", "iou")
    ]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"criterion": "learned"}, SpecError, "'learned' has no scores of single images"),
        ({"criterion": "actgrid"}, SpecError, "did you mean 'actgrad'"),
        ({"numbers": [4]}, SpecError, "half of the images are 3, so give 1 to 3"),
        ({"numbers": [0]}, SpecError, "give 1 to 3"),
        ({"repeats": 0}, SpecError, "repeats=0"),
        ({"keep": 0}, SpecError, "keep=0"),
        ({"unit": 2}, QueryError, "is dead"),
        ({"images": torch.zeros(1, 3, 10, 10)}, ImageError, "cannot be split into halves"),
        ({"unit": 3}, AtlasError, "unit 3"),
    ],
)
def test_what_cannot_be_tested(images, changes, error, message):
    given: dict[str, Any] = {"images": images, "layer": "4", "unit": 1, "self_check": False}
    with pytest.raises(error, match=message) as caught:
        transfer(network(), **{**given, **changes})
    assert "\n" not in str(caught.value)


def test_a_unit_of_a_spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "transfer_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=7, side=10)
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "transfer_models:network"},
            "preprocessing": {"resize": [10, 10], "mean": [0.5] * 3, "std": [0.25] * 3},
            "images": {"source": str(tmp_path / "pictures"), "held_out": ["06.png"]},
            "layers": [{"name": "2", "units": [0]}, {"name": "4*", "units": [0]}],
            "circuits": {"criteria": ["snip", "learned"], "seed": 4, "connected": True},
        }
    )
    found = transfer_in(spec, layer="4", unit=1, keep=KEEP, repeats=1)
    # Six images score; the same as of tensors.
    pictures = torch.cat(list(OpenedSpec(spec).batches(range(6), 6)))
    alone = transfer(
        network(), pictures, layer="4", unit=1, criterion="snip", keep=KEEP, repeats=1, seed=4
    )
    assert found.to_pylist() == alone.to_pylist()
    with pytest.raises(SpecError, match="no layer '5'"):
        transfer_in(spec, layer="5", unit=1)
    with pytest.raises(AtlasError, match="unit 3"):
        transfer_in(spec, layer="4", unit=3)
