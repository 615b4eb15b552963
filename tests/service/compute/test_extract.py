"""A circuit extracted from a model: the same as the masked model, on files too, and its receipt."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from circuit_atlas.service import (
    Atlas,
    Circuit,
    ImageError,
    ModelError,
    NonFiniteError,
    QueryError,
    WriteError,
    find_circuit,
)
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.compute.extracted_circuit import ExtractedCircuit
from tests.oracles.convolutions import Target
from tests.oracles.faithfulness import circuit_response

# Of the response's range, with 0 in it.
MOST = 1e-5
KEPT = (0.6, 0.3, 0.1, 0.03)
SIDE = 11


class Net(nn.Module):
    """A concatenation, a depthwise convolution, a sum and a grouped convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.one = nn.Conv2d(8, 6, 1)
        self.three = nn.Conv2d(8, 6, 3, padding=1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.norm = nn.BatchNorm2d(12)
        self.last = nn.Conv2d(12, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.classify = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.stem(x))
        x = torch.cat([self.relu(self.one(x)), torch.sigmoid(self.three(x))], 1)
        x = x + functional.hardswish(self.norm(self.depthwise(x)))
        x = self.relu(self.last(functional.avg_pool2d(x, 2, padding=1)))
        y: Tensor = self.classify(x.mean((2, 3)))
        return y


@pytest.fixture(scope="module")
def model() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        module = Net()
        module.norm.running_var.uniform_(0.1, 0.5)
        module.norm.bias.data.normal_(0.0, 0.5)
        module.last.bias.data += 0.2
    return module.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn((5, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def unit(model: nn.Module, images: Tensor) -> Unit:
    circuit = find_circuit(model, images, layer="last", unit=1, keep=KEPT[0], fractions=KEPT[1:])
    return Atlas(circuit.origins[0].reader).layer("last").unit(1)


@pytest.fixture(scope="module")
def extracted(unit: Unit, model: nn.Module, images: Tensor) -> ExtractedCircuit:
    """Of the circuit that keeps .3."""
    return unit.circuit(keep=0.3).extract(model, images=images)


def passed_on(model: nn.Module, images: Tensor, unit: int = 1) -> Tensor:
    """What a unit of `last` passes on: its output after the ReLU."""
    outputs: list[Tensor] = []
    hook = model.last.register_forward_hook(lambda *call: outputs.append(call[2].relu()))
    with torch.no_grad():
        model(images)
    hook.remove()
    return outputs[0][:, unit]


def span(maps: Tensor) -> float:
    return float(maps.max().clamp(min=0) - maps.min().clamp(max=0))


@pytest.mark.parametrize("keep", [0.6, 0.1, 0.03])
def test_it_gives_what_the_masked_model_gives(unit, model, images, keep):
    circuit = unit.circuit(keep=keep)
    extracted = circuit.extract(model, images=images)
    wanted = passed_on(circuit.apply_to(model), images)
    assert float((extracted(images) - wanted).abs().max()) <= MOST * span(wanted)
    assert extracted.receipt.relative_difference <= MOST
    assert extracted.receipt.response_range == pytest.approx(span(wanted))


def test_mean_ablation(unit, model, images):
    circuit = unit.circuit(keep=0.3)
    extracted = circuit.extract(model, ablation="mean", images=images)
    masks = {
        convolution.name: torch.from_numpy(kept)
        for convolution, kept in zip(circuit.index.convolutions, circuit.grids(), strict=True)
    }
    wanted = circuit_response(
        model, images, Target("last", 1), masks=masks, ablation="mean", scoring=images.double()
    )
    found = extracted(images).numpy()
    np.testing.assert_allclose(found, wanted.clip(min=0), rtol=0, atol=MOST * wanted.max())
    assert extracted.receipt.ablation == "mean"


def test_a_masked_network_that_gives_0_alone_has_no_share_of_its_range(extracted):
    receipt = replace(extracted.receipt, difference=1e-9, response_range=0.0)
    assert receipt.relative_difference == math.inf
    assert json.loads(json.dumps(receipt.to_dict(), allow_nan=False))["relative_difference"] is None
    assert "1e-09 at most from the masked network, which gives 0 alone, on 5 images" in str(receipt)


def test_the_receipt_counts_what_is_there(unit, model, extracted):
    circuit = unit.circuit(keep=0.3)
    receipt = extracted.receipt
    assert (receipt.layer, receipt.unit, receipt.model) == ("last", "1", "Net")
    assert (receipt.kernels, receipt.kernels_whole) == (len(circuit), len(circuit.reachable))
    stored = [*extracted.parameters(), *extracted.buffers()]
    assert receipt.parameters == sum(each.numel() for each in stored if each.is_floating_point())
    before = ("stem", "one", "three", "depthwise", "norm", "last")
    assert receipt.parameters_whole == sum(
        each.numel()
        for name in before
        for key, each in model.get_submodule(name).state_dict().items()
        if "num_batches" not in key
    )
    # Positions of each convolution's output, and the kernels' weights that meet there.
    positions = {"stem": SIDE**2, "one": SIDE**2, "three": SIDE**2, "depthwise": SIDE**2, "last": 9}
    assert receipt.multiply_adds_whole == sum(
        count * model.get_submodule(name).weight.numel() for name, count in positions.items()
    )
    left = {name: part for name, part in extracted.network.named_modules() if name in positions}
    assert receipt.multiply_adds == sum(
        positions[name] * part.weight.numel() for name, part in left.items()
    )
    kernels = [part.weight.flatten(2).any(2).sum() for part in left.values()]
    assert receipt.kernels_run == sum(int(each) for each in kernels) <= receipt.kernels
    assert receipt.speed_up == receipt.milliseconds_whole / receipt.milliseconds
    assert (receipt.batch, receipt.images, receipt.noise) == (5, 5, False)
    assert json.loads(json.dumps(receipt.to_dict()))["speed_up"] == receipt.speed_up
    text = str(receipt)
    assert text.startswith("last/1 of Net, zero ablation\n")
    assert f"{len(circuit):,} of {len(circuit.reachable):,}" in text
    assert len(text.splitlines()) == 7


def test_the_model_stays_as_it_is(unit, model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    extracted = unit.circuit(keep=0.3).extract(model)
    assert extracted.receipt.noise
    with torch.no_grad():
        for parameter in extracted.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("ending", [".pt2", ".onnx"])
def test_a_saved_circuit_runs_elsewhere(extracted, images, tmp_path, ending):
    """On batches of any size."""
    path = extracted.save(tmp_path / f"circuit{ending}")
    assert path.exists()
    assert list(tmp_path.iterdir()) == [path]
    for batch in (images, images[:1]):
        if ending == ".pt2":
            files = {"receipt.json": ""}
            found = torch.export.load(path, extra_files=files).module()(batch).numpy()
            receipt = files["receipt.json"]
        else:
            session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
            assert session.get_inputs()[0].shape == ["batch", 3, SIDE, SIDE]
            (found,) = session.run(["maps"], {"images": batch.numpy()})
            receipt = session.get_modelmeta().custom_metadata_map["receipt.json"]
        atol = MOST * extracted.receipt.response_range
        np.testing.assert_allclose(found, extracted(batch).numpy(), rtol=0, atol=atol)
        assert json.loads(receipt) == extracted.receipt.to_dict()


def test_a_combination_of_circuits_of_one_unit(unit, model, images):
    circuit = unit.circuit(keep=0.1) | unit.circuit(keep=0.3, images=[0, 2])
    wanted = passed_on(circuit.apply_to(model), images)
    assert float((circuit.extract(model)(images) - wanted).abs().max()) <= MOST * span(wanted)


@pytest.fixture(scope="module")
def whole(model: nn.Module, images: Tensor) -> Circuit:
    """All kernels of another unit, so that no channel is a constant."""
    return find_circuit(model, images, layer="one", unit=0, keep=1.0)


def test_a_saved_circuit_takes_images_of_any_size(whole, model, images, tmp_path):
    extracted = whole.extract(model)
    assert extracted.receipt.fixed == ""
    path = extracted.save(tmp_path / "circuit.PT2")
    larger = functional.interpolate(images, size=(13, 16))
    wanted = model.one(model.stem(larger).relu()).relu()[:, 0].detach()
    atol = MOST * span(wanted)
    for found in (extracted(larger), torch.export.load(path).module()(larger)):
        torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def test_circuits_of_several_units_are_refused(unit, whole, model):
    with pytest.raises(QueryError, match="is of 'last/1' and 'one/0': give a circuit of one unit"):
        (unit.circuit(keep=0.1) | whole).extract(model)


def test_a_combination_of_what_is_passed_on_and_what_is_put_out_is_refused(unit, model, images):
    other = find_circuit(model, images, layer="last", unit=1, keep=0.3, activation="pre")
    for both in (unit.circuit(keep=0.3) | other, other | unit.circuit(keep=0.3)):
        with pytest.raises(QueryError, match=r'one with activation = "post" and one with "pre"'):
            both.extract(model)


@pytest.mark.parametrize("ablation", ["zero", "mean"])
def test_no_receipt_is_given_where_no_difference_can_be_told(unit, model, images, ablation):
    circuit = unit.circuit(keep=0.6)
    broken = images.clone()
    broken[2, 0, 0, 0] = torch.nan
    with pytest.raises(ImageError, match=r"NaN or infinity \(1 of 5 images, the first at 2\)"):
        circuit.extract(model, ablation=ablation, images=broken)
    with pytest.raises(NonFiniteError, match="gives NaN or infinity on these images"):
        circuit.extract(model, ablation=ablation, images=images.sign() * 3e38)


def test_what_cannot_be_used_is_told_in_a_line(
    unit, extracted, model, images, tmp_path, monkeypatch
):
    circuit: Circuit = unit.circuit(keep=0.1)
    with pytest.raises(QueryError, match=r"ablation='median': did you mean 'mean'"):
        circuit.extract(model, ablation="median")
    with pytest.raises(QueryError, match="an atlas does not store them: give those images"):
        circuit.extract(model, ablation="mean")
    with pytest.raises(ImageError, match=r"shape \(3, 5, 11\): .* images of shape \(3, 11, 11\)"):
        circuit.extract(model, images=images[:, :, :5])
    with pytest.raises(ImageError, match=r"images is of torch.int32: give floating numbers"):
        circuit.extract(model, images=images.int())
    with pytest.raises(QueryError, match=r"this model's weights .* are not those"):
        circuit.extract(Net().eval())
    with pytest.raises(ModelError, match="training mode"):
        circuit.extract(Net())
    with pytest.raises(ImageError, match="takes a batch of images 3 x 11 x 11"):
        extracted(images[0])
    with pytest.raises(ImageError, match=r"3 x 11 x 11, since .*"):
        extracted(images[:, :, :5])
    with pytest.raises(QueryError, match=r"end its name with '\.pt2' or '\.onnx'"):
        extracted.save(tmp_path / "circuit.pt")
    with pytest.raises(WriteError, match="give another path"):
        extracted.save(tmp_path / "nowhere" / "circuit.pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(QueryError, match=r"pip install 'circuit-atlas\[onnx\]'; or save as \.pt2"):
        extracted.save(tmp_path / "circuit.onnx")
