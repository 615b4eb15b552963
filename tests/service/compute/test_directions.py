"""An atlas of directions from a file: the features of a sparse autoencoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas, CorruptError, MismatchError
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.verify import verify
from tests.jobs.builds import write_noise

FEATURES, SIDE = 300, 12
MODEL = """
from torch import nn

def network():
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.ReLU()
    )
"""


def encoder() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(FEATURES, 5, generator=generator), torch.full((FEATURES,), -0.1)


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A spec whose atlas is built: rows 0 and 200 of an encoder, over layer 3."""
    folder = tmp_path_factory.mktemp("directions")
    torch.manual_seed(0)
    names: dict[str, Any] = {}
    exec(MODEL, names)
    network: nn.Module = names["network"]()
    torch.save(network.state_dict(), folder / "weights.pt")
    (folder / "sae_models.py").write_text(MODEL)
    weight, bias = encoder()
    save_file({"encoder.weight": weight, "encoder.bias": bias}, folder / "sae.safetensors")
    write_noise(folder / "images", count=6, side=SIDE)
    spec = {
        "model": {"reference": "sae_models:network", "weights": str(folder / "weights.pt")},
        "preprocessing": {"resize": [SIDE, SIDE]},
        "images": {"source": str(folder / "images"), "held_out": 0.3},
        "layers": [
            {
                "name": "3",
                "units": [],
                "directions": {
                    "file": str(folder / "sae.safetensors"),
                    "activation": "relu",
                    "rows": [0, 200],
                },
            }
        ],
        "circuits": {"fractions": [1.0, 0.5], "top_images": 3},
        "run": {"store": str(folder / "atlas")},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        assert build(BuildSpec.from_values(spec), executor=LocalExecutor()).done == 2
    return spec


def changed(values: dict[str, Any], **directions: Any) -> BuildSpec:
    (layer,) = values["layers"]
    given = {**layer["directions"], **directions}
    return BuildSpec.from_values({**values, "layers": [{**layer, "directions": given}]})


@pytest.fixture
def on_path(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(values["run"]["store"]).parent)


def test_the_directions_are_stored_beside_the_layer_and_read_back(values: dict[str, Any]) -> None:
    atlas = Atlas.open(values["run"]["store"])
    assert [unit.info.name for unit in map(atlas.layer("3").unit, (5, 205))] == ["sae.0", "sae.200"]
    assert atlas.layer("3").units()["unit"].to_pylist() == [5, 205]
    weight, bias = encoder()
    stored = atlas.reader.direction("3", 205)
    assert stored is not None
    np.testing.assert_array_equal(stored.vector, weight[200].numpy())
    assert (stored.bias, stored.activation) == (float(bias[200]), "relu")
    assert atlas.reader.direction("3", 4) is None
    folder = Path(values["run"]["store"])
    # Names and rows alone: no direction's numbers.
    assert (folder / layer_paths.layer_index("3")).stat().st_size < 100 * FEATURES
    assert not verify(atlas.reader.objects)


def test_what_a_unit_responds_with_is_its_weighted_sum_after_the_relu(
    values: dict[str, Any],
) -> None:
    unit = Atlas.open(values["run"]["store"]).layer("3").unit("sae.200")
    maps = unit.reader.response_maps(unit.reader.commit("3", 205))
    assert maps.min() == 0
    assert maps.max() > 0
    top = unit.top_images().to_pylist()
    assert top[0]["response"] == pytest.approx(float(maps[0].sum()), rel=1e-5)
    assert unit.circuit(keep=0.5).diagram().figure().svg


@pytest.mark.usefixtures("on_path")
def test_a_later_build_gives_the_same_directions_or_none(values: dict[str, Any]) -> None:
    more = build(changed(values, rows=[0, 7]), executor=LocalExecutor())
    assert (more.done, more.skipped) == (1, 1)
    (layer,) = values["layers"]
    channel = {**layer, "units": [2], "directions": {}}
    of_stored = BuildSpec.from_values({**values, "layers": [channel]})
    assert build(of_stored, executor=LocalExecutor()).done == 1
    with pytest.raises(MismatchError, match="of other numbers, or with another activation"):
        build(changed(values, activation="none"), executor=LocalExecutor())


def test_altered_directions_are_found(values: dict[str, Any]) -> None:
    path = Path(values["run"]["store"]) / layer_paths.directions("3")
    whole = path.read_bytes()
    try:
        path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
        atlas = Atlas.open(values["run"]["store"])
        assert [finding.kind for finding in verify(atlas.reader.objects)] == ["altered"]
        with pytest.raises(CorruptError, match=r"directions\.parquet"):
            atlas.reader.direction("3", 205)
    finally:
        path.write_bytes(whole)
