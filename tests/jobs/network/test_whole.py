"""What has weights and no kernels to prune is named."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.network.whole import whole_modules
from tests.oracles.cases import CASES, SIZE


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("transposed", {"transposed convolution": ("middle.up",)}),
        ("one axis", {"convolution along one axis": ("middle.conv",)}),
        ("three axes", {"convolution along three axes": ("middle.conv",)}),
        (
            "images folded into channels",
            {"convolution with a weight made from the image": ("middle",)},
        ),
        (
            "channels folded into the batch",
            {"convolution of images folded into the batch": ("middle.conv",)},
        ),
        (
            "folded images and images, one weight",
            {"convolution of images folded into the batch": ("middle.conv",)},
        ),
        ("a gate with batch norm of vectors", {"linear layer": ("middle.down", "middle.up")}),
        ("twice in series", {}),
    ],
)
def test_what_stays_whole(name: str, wanted: dict[str, tuple[str, ...]]) -> None:
    case = CASES[name]
    network = ModelGraph(case.build().requires_grad_(False), (3, *SIZE)).network(case.layer)
    assert {kind.singular: paths for kind, paths in whole_modules(network).items()} == wanted
