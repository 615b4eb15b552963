"""The same numbers on a GPU."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.circuit_maps import circuit_maps
from circuit_atlas.jobs.circuits.faithfulness import correlation
from circuit_atlas.jobs.circuits.kernel_means import kernel_means
from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.demo import squeezenet1_1
from circuit_atlas.jobs.engine.traced_layer import TracedLayer, open_layer
from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.jobs.scores.force import ForceRun, force_scores, schedule
from circuit_atlas.jobs.scores.integrated import ImagePath, mean_colour
from circuit_atlas.jobs.scores.over_images import score_images
from circuit_atlas.jobs.tasks.memory import free_bytes
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.service.commands.demo import LAYER, demo_spec

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here"),
]

UNITS = (0, 32, 64, 96)
KEPT = 2787


@pytest.fixture(autouse=True)
def float32() -> Iterator[None]:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def opened(device: str) -> TracedLayer:
    module = squeezenet1_1().eval().requires_grad_(False).to(device)
    return open_layer(ModelGraph(module, (3, 224, 224)), LAYER)


def photos(device: str) -> torch.Tensor:
    return OpenedSpec(demo_spec()).images.batch(list(range(4))).to(device)


def scores(device: str, criterion: str) -> NDArray[np.float32]:
    layer, images = opened(device), photos(device)
    if criterion == "force":
        courses = [ForceRun(n, schedule(KEPT, int(layer.reachable(n).sum()), 3)) for n in UNITS]
        return np.stack(force_scores(layer, courses, lambda: [images], response="sum_abs"))
    return score_images(
        layer,
        UNITS,
        [images],
        keep=dict.fromkeys(UNITS, ()),
        criteria=[criterion],
        response="sum_abs",
        block=len(UNITS),
        means=kernel_means(layer, [images]),
        path=ImagePath(5, mean_colour([images]), None),
    )[criterion].mean


def share_that_differs(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Of the kernels of the circuits, how many are not in the other's."""
    pairs = [(keep_best(a, KEPT), keep_best(b, KEPT)) for a, b in zip(one, other, strict=True)]
    return float(np.mean([(a & ~b).sum() / KEPT for a, b in pairs]))


@pytest.mark.parametrize(
    "criterion", ["actgrad", "actgrad_centred", "integrated", "cla", "snip", "force"]
)
def test_masks_are_those_of_the_processor(criterion, record_property):
    share = share_that_differs(scores("cuda", criterion), scores("cpu", criterion))
    record_property("share of kernels that differ", share)
    assert share < 1e-3


@pytest.mark.parametrize("criterion", ["actgrad", "snip"])
def test_tf32_leaves_the_circuits_as_faithful(criterion, record_property):
    exact = scores("cuda", criterion)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    rounded = scores("cuda", criterion)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    record_property("share of kernels that differ", share_that_differs(exact, rounded))
    layer, images = opened("cuda"), photos("cuda")
    full = layer.network.output(images)
    for row, unit in enumerate(UNITS):
        whole = full[:, unit].double().cpu().numpy().ravel()
        r = []
        for found in (exact, rounded):
            masks = keep_best(found[row], KEPT)[None]
            circuit = circuit_maps(layer, unit, masks, images)[0]
            r.append(correlation(circuit.double().cpu().numpy().ravel(), whole))
        assert r[0] == pytest.approx(r[1], abs=1e-3)


def test_free_memory_is_that_of_the_device():
    found = free_bytes(torch.device("cuda"))
    assert 0 < found <= torch.cuda.get_device_properties(0).total_memory
