"""A circuit of a model and a tensor: right, the same as a build's, and without a trace."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine import gradient_rules
from circuit_atlas.jobs.images.tensor_images import TensorImages
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.circuits import Criterion
from circuit_atlas.jobs.tasks.opened_spec import OpenedSpec
from circuit_atlas.jobs.tasks.plan import make_tasks, resolve
from circuit_atlas.jobs.tasks.worker import CircuitJob
from circuit_atlas.service import (
    Atlas,
    AtlasError,
    Circuit,
    ImageError,
    ModelError,
    NonFiniteError,
    QueryError,
    SpecError,
    find_circuit,
)
from tests.jobs.builds import lay_out, write_noise
from tests.oracles import networks, reference
from tests.oracles.convolutions import Masks, Target
from tests.oracles.faithfulness import circuit_response, full_response, pearson
from tests.oracles.reach import reach
from tests.oracles.scores import actgrad, force, keep_top, kernels, over_set, schedule

MODEL = '''
import torch
from torch import nn

def network():
    """Unit 1 of layer 4 is dead, unit 2 overflows."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 5, 3, padding=1),
        nn.Dropout(0.5),
        nn.Flatten(),
        nn.Linear(5 * 36, 3),
    )
    with torch.no_grad():
        model[4].weight[1] = 0
        model[4].weight[2] = 1e38
        model[4].bias[2] = 3e38
    return model
'''
CRITERIA = list(get_args(Criterion))
KEEP = 0.2
TOLERANCE = 1e-5
"""Of the largest score: float32 against float64, summed over up to 576 positions."""


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildSpec:
    (tmp_path / "door_models.py").write_text(MODEL)
    monkeypatch.syspath_prepend(tmp_path)
    write_noise(tmp_path / "pictures", count=7, side=12)
    return BuildSpec.from_values(
        {
            "model": {"reference": "door_models:network"},
            "preprocessing": {"resize": [12, 12]},
            "images": {"source": str(tmp_path / "pictures"), "held_out": ["05.png", "06.png"]},
            "layers": [{"name": "4", "units": [0, 3]}],
            "circuits": {
                "criteria": CRITERIA,
                "fractions": [KEEP],
                "ablation": ["mean"],
                "top_images": 4,
                "seed": 3,
            },
            "learned": {"steps": 5, "seed": 3},
            "run": {"store": str(tmp_path / "atlas")},
        }
    )


def small() -> nn.Module:
    """The model of `spec`, in evaluation mode."""
    names: dict[str, Any] = {}
    exec(MODEL, names)
    torch.manual_seed(0)
    network: nn.Module = names["network"]()
    return network.eval()


def noise(count: int = 4, *, channels: int = 3, side: int = 12, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, side, side, generator=generator)


def ask(**changes: Any) -> Circuit:
    """A circuit of unit 0 of the small model, with some arguments changed."""
    given: dict[str, Any] = {"model": small(), "images": noise(), "layer": "4", "unit": 0}
    return find_circuit(**{**given, **changes})


def same(circuit: Circuit, masks: Masks) -> bool:
    """Whether a circuit has the kernels of some masks and no other."""
    found = {(k["convolution"], k["out_channel"], k["in_channel"]) for k in rows_of(circuit)}
    return found == {(n, o, i) for n in masks for o, i in masks[n].nonzero().tolist()}


def rows_of(circuit: Circuit) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = circuit.kernels().to_pylist()
    return rows


def test_it_is_the_circuit_that_a_build_stores(spec: BuildSpec) -> None:
    lay_out(spec)
    worker = CircuitJob(spec, 1).open()
    for task in make_tasks(resolve(spec), spec, {}, workers=1):
        assert {receipt.state for receipt in worker.run(task)} == {"done"}
    unit = Atlas.open(spec.run.store).layer("4").unit(3)
    opened = OpenedSpec(spec).images

    for criterion in spec.circuits.criteria:
        found = find_circuit(
            small(),
            opened.batch(opened.scoring),
            layer="4",
            unit=3,
            criterion=criterion,
            keep=KEEP,
            held_out=opened.batch(opened.held_out),
            ablation="mean",
            top_images=4,
            learned={"steps": 5},
            seed=3,
        )
        stored = unit.circuit(keep=KEEP, criterion=criterion)
        assert found == stored
        np.testing.assert_array_equal(found.scores, stored.scores)
        assert found.kernels().equals(stored.kernels())
        assert found.faithfulness().equals(stored.faithfulness())
        assert found.iou(stored) == 1  # of the same weights, so they combine


@pytest.mark.parametrize("unit", reference.UNITS)
def test_scores_and_faithfulness_agree_with_the_formulas_in_float64(unit: int) -> None:
    net, images = reference.plain_net(), reference.images()
    target = Target(reference.LAYER, unit)
    kept = reach(net, images[0], reference.LAYER, unit)

    circuit = find_circuit(
        net, images[:4], layer=reference.LAYER, unit=unit, keep=1, held_out=images[4:]
    )

    per_image = actgrad(net, images[:4], target)
    whole = over_set(per_image)
    largest = max(array.max() for array in whole.values())
    rows = rows_of(circuit)
    assert len(rows) == kernels(kept)
    for row in rows:
        kernel = row["out_channel"], row["in_channel"]
        wanted = whole[row["convolution"]][kernel]
        assert row["score"] == pytest.approx(wanted, rel=0, abs=TOLERANCE * largest)
    by_image = circuit.image_scores()
    assert sorted(by_image["image"].to_pylist()) == [0, 1, 2, 3]
    for image, scores in zip(
        by_image["image"].to_pylist(), by_image["scores"].to_pylist(), strict=True
    ):
        wanted = [
            per_image[row["convolution"]][image, row["out_channel"], row["in_channel"]]
            for row in rows
        ]
        # Scores of single images are kept in eight bits each.
        np.testing.assert_allclose(scores, wanted, rtol=0, atol=0.01 * max(wanted))

    circuit = find_circuit(
        net, images[:4], layer=reference.LAYER, unit=unit, keep=KEEP, held_out=images[4:]
    )
    masks = keep_top(whole, kept, len(circuit))
    assert same(circuit, masks)
    measured = circuit.faithfulness().to_pylist()
    assert [row["split"] for row in measured] == ["scoring", "held_out"]
    assert [row["images"] for row in measured] == [4, 2]
    for row, part in zip(measured, (images[:4], images[4:]), strict=True):
        pruned = circuit_response(net, part, target, masks=masks, ablation="zero")
        r = pearson(pruned, full_response(net, part, target))
        assert row["pearson"] == pytest.approx(r, abs=1e-4)  # of up to ten layers in float32


def test_a_class_score_has_a_circuit_that_a_copy_of_the_model_computes_with() -> None:
    network = networks.NAMED["branched"]()
    model, images, target = network.module, network.images(6), Target("classify", 1)

    circuit = find_circuit(model, images, layer="classify", unit=1, keep=KEEP)

    kept = reach(model, images[0], "classify", 1)
    masks = keep_top(over_set(actgrad(model, images, target)), kept, len(circuit))
    assert same(circuit, masks)
    with torch.no_grad():
        found = circuit.apply_to(model)(images)[:, 1]
    wanted = circuit_response(model, images, target, masks=masks, ablation="zero")
    np.testing.assert_allclose(found, wanted[:, 0, 0], rtol=0, atol=1e-5 * np.abs(wanted).max())
    assert [
        row["box_bottom"]
        for row in circuit.origins[0]
        .reader.responses(circuit.origins[0].reader.commit("classify", 1))
        .to_pylist()
    ] == [9] * 6


def test_force_finds_the_circuit_of_its_formula_in_float64() -> None:
    net, images, unit = reference.plain_net(), reference.images()[:2], reference.UNITS[0]
    kept = reach(net, images[0], reference.LAYER, unit)

    circuit = find_circuit(
        net, images, layer=reference.LAYER, unit=unit, criterion="force", keep=KEEP
    )

    steps = schedule(kernels(kept), round(KEEP * kernels(kept)), 10)
    found = force(net, images, Target(reference.LAYER, unit), reach=kept, counts=steps)
    assert same(circuit, keep_top(found.scores_after, kept, steps[-1]))
    assert circuit.faithfulness().num_rows == 1
    with pytest.raises(QueryError, match="'force' has no scores of single images"):
        circuit.image_scores()


def test_the_planted_circuit_is_found_and_drawn_and_applied(tmp_path: Path) -> None:
    planted = networks.planted()
    net, images = planted.network.module, planted.network.images(5)

    whole = find_circuit(net, images, layer=planted.layer, unit=planted.unit, keep=1)
    circuit = find_circuit(
        net,
        images,
        layer=planted.layer,
        unit=planted.unit,
        keep=len(planted.kernels) / len(whole),
    )

    found = rows_of(circuit)
    assert {(k["convolution"], k["out_channel"], k["in_channel"]) for k in found} == planted.kernels
    (row,) = circuit.faithfulness().to_pylist()
    with torch.no_grad():
        full = net(images)[:, planted.unit]
        pruned = circuit.apply_to(net)(images)[:, planted.unit]
    r = np.corrcoef(full.numpy().ravel(), pruned.numpy().ravel())[0, 1]
    assert row["pearson"] == pytest.approx(r, abs=1e-5)
    assert row["pearson"] > 0.9
    circuit.diagram().save(tmp_path / "planted.svg")
    drawn = (tmp_path / "planted.svg").read_text()
    assert "image/jpeg" in drawn
    assert planted.layer in drawn


def test_circuits_of_single_images_have_as_many_kernels() -> None:
    circuit = ask(keep=KEEP)

    alone = circuit.for_images([2])

    assert len(alone) == len(circuit)
    assert alone.origins[0].images == (2,)
    place = circuit.image_scores()["image"].to_pylist().index(2)
    scores = ask(keep=1).image_scores()["scores"].to_pylist()[place]
    best = sorted(np.argsort(-np.array(scores), kind="stable")[: len(circuit)].tolist())
    assert alone.positions.tolist() == ask(keep=1).positions[best].tolist()
    with pytest.raises(QueryError, match="no scores of image 9: it has those of its top images"):
        circuit.for_images([9])
    with pytest.raises(QueryError, match="was not measured: it was for the circuits of all"):
        alone.faithfulness()
    with pytest.raises(QueryError, match="was not chosen for one unit"):
        (circuit | alone).faithfulness()


def test_further_fractions_are_in_the_atlas_in_memory() -> None:
    circuit = ask(keep=KEEP, fractions=(0.5, 1), held_out=noise(2, seed=1))

    unit = Atlas(circuit.origins[0].reader).layer("4").unit(0)

    rows = unit.faithfulness().to_pylist()
    assert [row["fraction"] for row in rows] == [1, 0.5, KEEP] * 2
    assert rows[0]["pearson"] == pytest.approx(1)
    assert unit.circuit(keep=0.5).contains(circuit)
    assert circuit.faithfulness().to_pylist() == [rows[2], rows[5]]
    assert unit.circuit(keep=0.5).faithfulness().to_pylist() == [rows[1], rows[4]]
    with pytest.raises(QueryError, match=r"was not measured: .* that keep 1 \(24\), 0.5 \(12\), 0"):
        unit.circuit(keep=0.4).faithfulness()
    images = Atlas(circuit.origins[0].reader).images()
    assert images["name"].to_pylist() == [f"image {n}" for n in range(4)] + [
        "held out 0",
        "held out 1",
    ]


def test_a_connected_circuit_has_no_dead_ends() -> None:
    network = networks.NAMED["branched"]()
    model, images, layer = network.module, network.images(3), "body.2.three"
    for criterion in ("random", "force"):
        plain, connected = (
            find_circuit(
                model, images, layer=layer, unit=1, criterion=criterion, keep=KEEP, connected=each
            )
            for each in (False, True)
        )
        acting = plain.faithfulness()["acting"][0].as_py()
        assert acting < len(plain) == len(connected)
        # As the diagram finds them, by the stored wiring.
        assert f" of {acting} kernels on a path drawn" in repr(plain.diagram(node_images=False))
        assert connected.faithfulness()["acting"].to_pylist() == [len(connected)]
        unit = Atlas(connected.origins[0].reader).layer(layer).unit(1)
        with pytest.raises(QueryError, match="only its stored circuits can be had"):
            unit.circuit(keep=0.3, criterion=criterion)
    with pytest.raises(SpecError, match=r"^circuits.connected: fraction 0.01 keeps 1 of the "):
        find_circuit(model, images, layer=layer, unit=1, keep=0.01, connected=True)


def test_a_drawing_shows_the_images_as_they_were() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.5)
    levels = torch.randint(0, 256, (3, 3, 12, 12), generator=torch.Generator().manual_seed(0))
    levels[0, :, 0, 0], levels[0, :, 0, 1] = 0, 255
    shape = (1, 3, 1, 1)
    images = (levels / 255 - torch.tensor(mean).view(shape)) / torch.tensor(std).view(shape)
    for options in ({"mean": mean, "std": std}, {}):
        for image in range(3):
            shown = TensorImages(images, **options).pixels(image)
            np.testing.assert_array_equal(shown, levels[image].permute(1, 2, 0).numpy())


@pytest.mark.parametrize("channels", [1, 2])
def test_images_may_have_any_number_of_channels(channels: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 3)).eval()

    circuit = ask(model=net, images=noise(channels=channels, side=9), layer="2", unit=1)

    assert circuit.index.convolutions[0].in_channels == channels
    circuit.diagram().save(tmp_path / "grey.svg")


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_it_computes_in_float32_whatever_the_model_is_in(dtype: torch.dtype) -> None:
    wanted = ask(model=small().to(dtype).float(), images=noise().to(dtype).float())
    found = ask(model=small().to(dtype), images=noise().to(dtype))
    assert found == wanted
    np.testing.assert_array_equal(found.scores, wanted.scores)


def test_no_file_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask()  # what is imported and compiled at the first use is no file of ours
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))

    ask(held_out=noise(2)).diagram()

    assert list(tmp_path.iterdir()) == []


def test_the_model_and_torch_stay_as_they_are() -> None:
    model, images = small(), noise()
    model[0].weight.requires_grad_(False)
    model[4].weight.grad = torch.ones_like(model[4].weight)
    model[4].register_forward_hook(doubled)
    images.requires_grad_(True)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    torch.backends.cudnn.allow_tf32 = True

    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        hooked = find_circuit(model, images, layer="4", unit=0)

    assert {n: torch.equal(t, before[n]) for n, t in model.state_dict().items()} == dict.fromkeys(
        before, True
    )
    assert not any(module.training for module in model.modules())
    assert [p.requires_grad for p in model.parameters()] == [False] + [True] * 7
    assert torch.equal(model[4].weight.grad, torch.ones_like(model[4].weight))
    assert len(model[4]._forward_hooks) == 1
    assert images.grad is None
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    assert torch.backends.cudnn.allow_tf32
    plain = ask()
    assert hooked == plain
    # The hook doubles the unit's output, and so every score above it.
    np.testing.assert_allclose(hooked.scores, 2 * plain.scores, rtol=1e-6)


def test_it_works_within_inference_mode() -> None:
    with torch.inference_mode():
        found = ask(images=noise())
    assert found == ask()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no CUDA GPU here")
def test_it_computes_where_the_model_lies() -> None:
    model = small().cuda()

    found = ask(model=model, images=noise().cuda(), held_out=noise(2))

    assert {parameter.device.type for parameter in model.parameters()} == {"cuda"}
    wanted = ask(held_out=noise(2))
    # Another device adds up in another order.
    np.testing.assert_allclose(
        ask(model=model, keep=1).scores, ask(keep=1).scores, rtol=0, atol=1e-4 * wanted.scores.max()
    )
    assert found.faithfulness().num_rows == wanted.faithfulness().num_rows
    assert next(found.apply_to(model).parameters()).device.type == "cuda"


def test_a_unit_that_fails_says_where_in_the_code() -> None:
    with pytest.raises(NonFiniteError) as caught:
        ask(unit=2)
    assert "units.py" in caught.value.__notes__[0]


def infinite() -> nn.Module:
    model = small()
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] = torch.nan
    return model


def half_trained() -> nn.Module:
    model = small()
    model[1].train()
    return model


def doubled(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    del module, given
    return result * 2


class Unique(nn.Conv2d):
    def __deepcopy__(self, memo: object) -> Unique:
        raise TypeError("there is one of it")


REFUSED: list[tuple[dict[str, Any], type[AtlasError], str]] = [
    ({"layer": "44"}, ModelError, "layer '44' is not in the model: did you mean '4'?"),
    ({"unit": 5}, ModelError, "unit 5 of layer '4' is out of range: it has 5 channels"),
    ({"unit": -1}, ModelError, "unit=-1: channels count from 0"),
    ({"unit": 0.5}, ModelError, "unit=0.5: give a channel of the layer"),
    ({"unit": 1}, QueryError, "unit 4/1 is dead: its response is the same on every image"),
    ({"unit": 2}, NonFiniteError, "responds with NaN or infinity to image 'image 0'"),
    ({"keep": 0}, SpecError, "keep=0: give a fraction of the kernels in (0, 1]"),
    ({"keep": "a"}, SpecError, "keep='a': give a fraction"),
    ({"criterion": "actgrd"}, SpecError, "criterion='actgrd': did you mean 'actgrad'?"),
    ({"ablation": "none"}, SpecError, "ablation='none': the choices of ablation are 'zero' and"),
    ({"response": "sum"}, SpecError, "circuits.response = 'sum': should be \"sum_abs\""),
    ({"response": (9, 0)}, ModelError, "position [9, 0] lies outside the layer's map"),
    ({"fractions": [2]}, SpecError, "circuits.fractions"),
    ({"top_images": 0}, SpecError, "circuits.top_images = 0"),
    ({"images": noise()[0]}, ImageError, "images is of shape (3, 12, 12): give (images, channels"),
    ({"images": noise().int()}, ImageError, "images is of torch.int32: give floating numbers"),
    ({"images": noise().numpy()}, ImageError, "images is of type 'ndarray': give a torch.Tensor"),
    ({"images": noise(0)}, ImageError, "images is of shape (0, 3, 12, 12)"),
    ({"images": noise() / 0}, ImageError, "images holds NaN or infinity (4 of 4 images"),
    ({"held_out": noise() / 0}, ImageError, "held_out holds NaN or infinity"),
    ({"held_out": noise(side=9)}, ImageError, "held_out holds images of shape (3, 9, 9)"),
    ({"images": noise(channels=1)}, ModelError, "the model cannot be traced for images of 1 x 12"),
    ({"mean": (0, 0)}, ImageError, "mean=(0, 0) and std=None do not fit images of 3 channels"),
    ({"model": "alexnet"}, ModelError, "model is of type 'str': give a torch.nn.Module"),
    ({"model": small().train()}, ModelError, "while it is in training mode"),
    ({"model": half_trained()}, ModelError, "while its module '1' is in training mode"),
    ({"model": infinite()}, ModelError, "'0.weight' holds NaN (1 of 162 values)"),
    ({"model": nn.LazyConv2d(3, 3).eval()}, ModelError, "has no values yet"),
    ({"model": Unique(3, 2, 3).eval()}, ModelError, "cannot be copied (TypeError: there is one"),
]


@pytest.mark.parametrize(
    ("changes", "error", "message"), REFUSED, ids=[message[:40] for _, _, message in REFUSED]
)
@pytest.mark.filterwarnings("ignore:Lazy modules:UserWarning")
def test_what_cannot_be_used_is_said_in_one_line(
    changes: dict[str, Any], error: type[AtlasError], message: str
) -> None:
    with pytest.raises(error) as caught:
        ask(**changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("layer", ["4", "module.4"])
def test_a_wrapped_model_gives_the_circuit_of_the_model_within(layer: str) -> None:
    wrapped = nn.DataParallel(small()).eval()
    circuit = ask(model=wrapped, layer=layer)
    assert rows_of(circuit) == rows_of(ask())
    assert isinstance(wrapped, nn.DataParallel)
    cut, expected = circuit.apply_to(wrapped), ask().apply_to(small())
    with torch.no_grad():
        assert torch.equal(cut(noise()), expected(noise()))


def test_a_layer_that_differs_from_the_model_is_refused(monkeypatch):
    def half(walk, step, gradient):
        for each in right(walk, step, gradient):
            yield each._replace(gradient=each.gradient * 0.5)

    right = gradient_rules.RULES["silu"]
    monkeypatch.setitem(gradient_rules.RULES, "silu", half)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.Conv2d(4, 3, 3)).eval()
    images = torch.randn(3, 3, 12, 12)
    with pytest.raises(ModelError, match="fails the self-check"):
        find_circuit(model, images, layer="2", unit=0)
    find_circuit(model, images, layer="2", unit=0, self_check=False)
