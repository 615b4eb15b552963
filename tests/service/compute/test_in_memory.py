"""A model in memory stays as it is; what cannot be used is said in one line."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.engine import gradient_rules
from circuit_atlas.service import (
    AtlasError,
    ImageError,
    ModelError,
    NonFiniteError,
    QueryError,
    SpecError,
    find_circuit,
)
from tests.service.compute.small_model import ask, noise, rows_of, small


def doubled(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> Tensor:
    del module, given
    return result * 2


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
    ({"learned": [3]}, SpecError, "learned=[3] is no table: give one such as {"),
    ({"learned": {"stops": 3}}, SpecError, "unknown key 'learned.stops': did you mean 'steps'?"),
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
