"""Networks of timm: their names, arguments, preprocessing and weights."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import timm
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from PIL import Image
from timm.data import create_transform

from circuit_atlas.jobs.images.decode import preprocess
from circuit_atlas.jobs.network.load import LoadedModel, load_model
from circuit_atlas.jobs.network.timm_model import preprocessing
from circuit_atlas.jobs.spec.model import ModelSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema.errors import ModelError

NAME = "test_resnet.r160_in1k"


def load(name: str = NAME, **model: Any) -> LoadedModel:
    return load_model(ModelSpec(reference=f"timm:{name}", **{"pretrained": False, **model}))


def refusal(name: str = NAME, **model: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(name, **model)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_network_with_arguments_and_preprocessing() -> None:
    model = load(arguments={"num_classes": 7})
    assert model.module.get_classifier().out_features == 7
    half = (0.5, 0.5, 0.5)
    assert model.preprocessing == PreprocessingSpec(resize=168, crop=160, mean=half, std=half)
    assert load(arguments={"num_classes": 7}).sha256 == model.sha256


def test_weights_of_a_file(tmp_path) -> None:
    torch.save(timm.create_model(NAME).state_dict(), tmp_path / "w.pt")
    model = load(weights=str(tmp_path / "w.pt"), arguments={"num_classes": 7}, pretrained=True)
    assert model.weights is not None
    assert "other shapes" in model.weights.remarks[0]


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(*_: object, **__: object) -> None:
        raise LocalEntryNotFoundError("cannot find the requested files\nin the disk cache")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    line = refusal(pretrained=True)
    assert line == (
        f"the weights of 'timm:{NAME}' could not be fetched (cannot find the requested files in "
        "the disk cache): set model.weights to a file, or model.pretrained = false"
    )


@pytest.mark.parametrize(
    ("name", "model", "message"),
    [
        ("test_resnet.r160", {}, "Invalid pretrained tag (r160) for test_resnet"),
        ("test_resnt", {}, "timm has no model 'test_resnt': did you mean 'test_resnet'"),
        (NAME, {"arguments": {"num_clases": 3}}, "unexpected keyword argument 'num_clases'"),
        (NAME, {"arguments": {"num_clases": 3}, "pretrained": True}, "argument 'num_clases'"),
        (NAME, {"arguments": {"pretrained": True}}, "model.arguments has 'pretrained': the mod"),
    ],
)
def test_what_timm_does_not_know(name: str, model: dict[str, Any], message: str) -> None:
    assert message in refusal(name, **model)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert refusal().endswith("needs the package timm: python -m pip install 'circuit-atlas[timm]'")


CONFIG = {
    "input_size": (3, 48, 48),
    "interpolation": "bicubic",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.1, 0.2, 0.3),
    "crop_pct": 0.875,
    "crop_mode": "center",
}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"crop_pct": 1.0},
        {"crop_mode": "squash"},
        {"interpolation": "bilinear"},
        {"crop_mode": "squash", "input_size": (3, 48, 32)},
    ],
)
def test_preprocessing_is_what_timm_does(change: dict[str, Any]) -> None:
    config = CONFIG | change
    ours = preprocessing(config)
    assert ours is not None
    image = Image.effect_noise((90, 70), 60).convert("RGB")
    theirs = create_transform(**config)(image)
    pixels = torch.as_tensor(preprocess(image, ours)).permute(2, 0, 1) / 255
    found = (pixels - torch.tensor(ours.mean)[:, None, None]) / torch.tensor(ours.std)[
        :, None, None
    ]
    assert torch.allclose(found, theirs, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        {"crop_mode": "border"},
        {"interpolation": "lanczos"},
        {"input_size": (1, 48, 48)},
        {"input_size": (3, 48, 32)},
    ],
)
def test_preprocessing_that_a_spec_cannot_say(change: dict[str, Any]) -> None:
    assert preprocessing(CONFIG | change) is None
