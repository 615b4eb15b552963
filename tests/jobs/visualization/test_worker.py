"""Visualizations of the demo network against its photos."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import v2

from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.demo import photos, squeezenet1_1
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.layers import LayerSpec
from circuit_atlas.jobs.spec.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from circuit_atlas.jobs.spec.visualization import FeaturesSpec
from circuit_atlas.jobs.tasks.plan import Task, resolve
from circuit_atlas.jobs.visualization import worker
from circuit_atlas.jobs.visualization.plan import plan_visualizations
from circuit_atlas.jobs.visualization.variants import (
    circuit_mask,
    nodes_of,
    variant_names,
    variants_of_unit,
)
from circuit_atlas.jobs.visualization.worker import VisualizationJob
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.verify import verify
from tests.jobs.visualization.runs import built, made

LAYER = "features.4.expand3x3"
UNITS = (0, 20, 40)
NODES = ("features.3.squeeze", (1, 5))
NODE = ("features.3.squeeze", 5)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[BuildSpec, Reader]:
    """Three units and two channels of the demo network, with pictures; all its photos."""
    store = tmp_path_factory.mktemp("features") / "atlas"
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "images": {"source": "demo:photos", "held_out": "odd"},
            # Behind the ReLU, nothing is below what grey gives.
            "layers": [{"name": LAYER, "units": list(UNITS), "activation": "pre"}],
            "circuits": {"fractions": [1, 0.3], "top_images": 4},
            "features": {"steps": 48, "node_steps": 32},
            "run": {"store": str(store)},
        }
    )
    reader = built(spec, LAYER, UNITS)
    worker = VisualizationJob(resolve(spec).spec).open()
    for layer, units in ((LAYER, UNITS), NODES):
        keys = tuple(UnitKey(spec.model.reference, layer, unit) for unit in units)
        receipts = worker.run(Task(layer, keys))
        assert [(receipt.state, receipt.message) for receipt in receipts] == [
            ("done", None) for _ in units
        ]
        assert all(receipt.size_bytes > 1000 and receipt.compute_s > 0 for receipt in receipts)
    return spec, reader


@pytest.fixture(scope="module")
def responses() -> Callable[[Image.Image], dict[str, np.ndarray]]:
    """`responses(image)`: the output of both layers by torchvision's preprocessing and the modules
    themselves, each (channels, positions), descending."""
    model = squeezenet1_1()
    normalise = v2.Compose(
        [
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(IMAGENET_MEAN, IMAGENET_STD),
        ]
    )

    def measured(image: Image.Image) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}

        def note(layer: str, output: Tensor) -> None:
            found[layer] = -np.sort(-output[0].flatten(1).numpy().astype(float))

        handles = [
            model.get_submodule(layer).register_forward_hook(
                lambda _module, _args, output, layer=layer: note(layer, output)
            )
            for layer in (LAYER, NODES[0])
        ]
        with torch.no_grad():
            model(normalise(image.convert("RGB"))[None])
        for handle in handles:
            handle.remove()
        return found

    return measured


@pytest.fixture(scope="module")
def of_photos(responses) -> list[dict[str, np.ndarray]]:
    """The responses to each of the demo's photos."""
    resize = v2.Resize((224, 224), antialias=True)
    return [responses(resize(Image.open(photo.path).convert("RGB"))) for photo in photos()]


def objective(found: dict[str, np.ndarray], layer: str, unit: int, sign: int) -> float:
    """The mean of the fifth of a unit's values that is largest, or smallest."""
    values = found[layer][unit][::sign]
    return float(values[: round(len(values) / 5)].mean())


# Channels of circuits have positive pictures alone.
@pytest.mark.parametrize(
    ("layer", "unit", "sign"),
    [*((LAYER, n, sign) for sign in (1, -1) for n in UNITS), (NODES[0], 5, 1)],
)
def test_a_unit_responds_to_its_own_picture_more_than_to_any_photo(
    demo, responses, of_photos, layer, unit, sign
):
    """And to its negative picture less."""
    _, reader = demo
    record = reader.feature_visualization(layer, unit, "positive" if sign > 0 else "negative")
    own = Image.open(io.BytesIO(reader.visualization_image(record)))
    response = objective(responses(own), layer, unit, sign)
    photo_responses = [objective(found, layer, unit, sign) for found in of_photos]
    best = int(np.argmax(sign * np.array(photo_responses)))
    assert sign * response > sign * photo_responses[best]
    assert record.response == pytest.approx(response, rel=1e-3)
    assert record.best_image_response == pytest.approx(photo_responses[best], rel=1e-3)
    assert record.best_image == best
    assert record.beats_images
    assert record.contrast > 0.1


def test_what_is_recorded(demo):
    spec, reader = demo
    records = reader.feature_visualizations(LAYER, 20)
    assert [record.variant for record in records] == [
        "positive",
        "negative",
        "positive.actgrad.0.3",
        "negative.actgrad.0.3",
    ]
    assert all((one.height, one.width, one.objective) == (64, 64, "peaks") for one in records)
    circuit = records[2].circuit
    assert circuit is not None
    commit = reader.commit(LAYER, 20)
    assert circuit.kernels == reader.mask(commit, "actgrad", 1).sum()
    assert (circuit.fraction, circuit.ablation, circuit.images) == (0.3, "zero", None)
    # The circuit is not the network, and its picture is another one.
    pictures = {reader.visualization_image(record) for record in records}
    assert len(pictures) == 4
    assert [one.variant for one in reader.feature_visualizations(NODES[0], 5)] == ["positive"]
    assert verify(reader.objects) == ()
    (node,) = Atlas.open(spec.run.store).feature_visualizations(*NODE)
    assert (node.record.layer, node.record.unit, node.record.height) == (*NODE, 64)
    images = Atlas.open(spec.run.store).layer(LAYER).unit(20).feature_visualizations()
    assert [image.variant for image in images] == [record.variant for record in records]
    assert images[0].png == images[0]._repr_png_() == reader.visualization_image(records[0])
    assert "positive of features.4.expand3x3/20: 64 x 64 pixels" in repr(images[0])


def test_a_picture_through_a_circuit_drives_the_circuit(demo):
    """More than the picture of the whole network does."""
    _, reader = demo
    layer = Atlas(reader).layer(LAYER)
    for unit in UNITS:
        pruned = layer.unit(unit).circuit(keep=0.3).apply_to(squeezenet1_1())
        measured = []
        for variant in ("positive", "positive.actgrad.0.3"):
            record = reader.feature_visualization(LAYER, unit, variant)
            pixels = np.array(Image.open(io.BytesIO(reader.visualization_image(record))))
            seen = (torch.from_numpy(pixels / 255.0) - torch.tensor(IMAGENET_MEAN)) / torch.tensor(
                IMAGENET_STD
            )
            found: list[Tensor] = []
            pruned.get_submodule(LAYER).register_forward_hook(
                lambda _module, _args, output, found=found: found.append(output.clone())
            )
            with torch.no_grad():
                pruned(seen.permute(2, 0, 1)[None].float())
            values = np.sort(found[0][0, unit].numpy().ravel().astype(float))[::-1]
            measured.append(float(values[: round(len(values) / 5)].mean()))
        assert measured[1] > measured[0]
        assert record.response == pytest.approx(measured[1], rel=1e-3)


def test_what_is_there_is_skipped(demo):
    spec, reader = demo
    build = resolve(spec)
    plan = plan_visualizations(build, spec, reader)
    assert plan.units == ()
    lacking = {name: set(channels) for name, channels in plan.nodes}
    assert not {1, 5} & lacking[NODES[0]]
    assert plan.skipped >= len(UNITS) + 1
    before = {entry.path for entry in reader.objects.list("features")}
    keys = tuple(UnitKey(spec.model.reference, LAYER, unit) for unit in UNITS)
    receipts = VisualizationJob(resolve(spec).spec).open().run(Task(LAYER, keys))
    assert [receipt.state for receipt in receipts] == ["done"] * 3
    assert {entry.path for entry in reader.objects.list("features")} == before
    # Asking for more makes what is more.
    more = spec.model_copy(update={"features": FeaturesSpec(fractions=(1.0, 0.3), nodes=False)})
    assert plan_visualizations(build, more, reader).units == ((LAYER, UNITS),)


def test_nodes_are_the_channels_of_the_circuits(demo):
    spec, reader = demo
    commits = [reader.commit(LAYER, unit) for unit in UNITS]
    found = nodes_of(reader, commits, FeaturesSpec(node_fraction=0.3))
    expected: dict[str, set[int]] = {}
    for unit in UNITS:
        kernels = Atlas(reader).layer(LAYER).unit(unit).circuit(keep=0.3).kernels().to_pylist()
        for row in kernels:
            if row["score"] > 0:
                expected.setdefault(row["convolution"], set()).add(row["out_channel"])
    assert {name: set(channels) for name, channels in found.items()} == expected
    own = plan_visualizations(resolve(spec), spec, reader)
    assert all(not set(UNITS) & set(channels) for name, channels in own.nodes if name == LAYER)


def test_the_circuit_of_a_group_is_that_of_its_images(demo, monkeypatch):
    spec, reader = demo
    commit = reader.commit(LAYER, 0)
    top = Atlas(reader).layer(LAYER).unit(0).top_images()["image"].to_pylist()
    groups = (tuple(sorted(top[:2])), tuple(sorted(top[2:])))
    variants = variants_of_unit(reader, commit, spec.features, groups=groups)
    assert [variant.name for variant in variants[-2:]] == [
        "positive.actgrad.0.3.group0",
        "positive.actgrad.0.3.group1",
    ]
    names = variant_names(reader.header, spec.features, groups=2)
    assert names == tuple(variant.name for variant in variants)
    for variant, images in zip(variants[-2:], groups, strict=True):
        assert variant.circuit.images == images
        rows = reader.image_scores(commit, "actgrad")[[top.index(image) for image in images]]
        expected = keep_best(rows.astype(np.float64).mean(0), variant.circuit.kernels)
        assert (variant.mask == expected).all()
    # The photos of the network fall into one group; with two, each has its picture.
    monkeypatch.setattr(worker, "groups_of", lambda *_: groups)
    key = UnitKey(spec.model.reference, LAYER, 0)
    (receipt,) = VisualizationJob(resolve(spec).spec).open().run(Task(LAYER, (key,)))
    assert receipt.state == "done"
    records = [reader.feature_visualization(LAYER, 0, name) for name in names[-2:]]
    assert [record.circuit.images for record in records] == list(groups)
    pictures = {reader.visualization_image(record) for record in records}
    assert (
        len(
            pictures
            | {reader.visualization_image(reader.feature_visualization(LAYER, 0, names[2]))}
        )
        == 3
    )
    # A fraction that is not stored is the best of the stored score.
    mask = circuit_mask(reader, commit, "actgrad", 0.07)
    assert mask.sum() == round(0.07 * commit.kernels)
    assert (mask <= reader.mask(commit, "actgrad", 1)).all()


def test_a_unit_that_cannot_go_below_zero_has_a_negative_picture(demo, tmp_path):
    """Of a ReLU, grey may be as low as any picture is: that is stored, and no failure."""
    spec, _ = demo
    layer, unit = f"{LAYER}_activation", 0
    spec = spec.model_copy(
        update={
            "layers": (LayerSpec(name=layer, units=[unit]),),
            "features": FeaturesSpec(steps=32, fractions=[], nodes=False),
            "run": spec.run.model_copy(update={"store": str(tmp_path / "relu")}),
        }
    )
    reader = built(spec, layer, (unit,))
    (receipt,) = made(spec, layer, unit)
    assert (receipt.state, receipt.message) == ("done", None)
    lowest = reader.feature_visualization(layer, unit, "negative")
    assert (lowest.response, lowest.best_image_response, lowest.tries) == (0, 0, 1)
    assert not lowest.beats_images
    assert lowest.contrast < 0.05
