"""Networks that are traced whatever they return, and as far as their code can be followed."""

from __future__ import annotations

import dataclasses
import io
import logging
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.ssd import SSD

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError

SHAPE = (3, 16, 16)


class Plain(nn.Module):
    """stem -> middle -> head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.middle(self.stem(x)))


def outputs(module: nn.Module, layer: str) -> tuple[Tensor, Tensor]:
    """A layer's output of three images, by the graph and in plain float32."""
    images = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(1))
    network = ModelGraph(module.eval(), SHAPE).network(layer)
    with torch.no_grad():
        plain = Plain().eval()
        expected = plain.middle(plain.stem(images))
        return network.output(images), expected if layer == "middle" else plain.head(expected)


@dataclasses.dataclass
class Result:
    logits: Tensor
    hidden: tuple[Tensor, ...]


class InDataclass(Plain):
    def forward(self, x: Tensor) -> Any:
        y = self.middle(self.stem(x))
        return Result(self.head(y), (y,))


class InAnObject(Plain):
    def forward(self, x: Tensor) -> Any:
        result = type("Answer", (), {})()
        result.logits = super().forward(x)
        return result


class AnyArguments(Plain):
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return super().forward(*args, **kwargs)


class Autocast(Plain):
    def forward(self, x: Tensor) -> Any:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return super().forward(x)


class AutocastInside(Plain):
    def forward(self, x: Tensor) -> Any:
        y = self.stem(x)
        with torch.amp.autocast_mode.autocast("cpu", dtype=torch.float16):
            return self.head(self.middle(y))


class AutocastDecorator(Plain):
    @torch.autocast("cpu", dtype=torch.bfloat16)
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class Compiled(Plain):
    @torch.compile
    def forward(self, x: Tensor) -> Any:
        return self.head(self.middle(self.stem(x)))


class Inference(Plain):
    @torch.inference_mode()
    def forward(self, x: Tensor) -> Any:
        return super().forward(x)


class Deprecated(Plain):
    """Warns as torch 2.11 does within its own export."""

    def forward(self, x: Tensor) -> Tensor:
        warnings.warn("`isinstance(treespec, LeafSpec)` is deprecated", FutureWarning, stacklevel=2)
        return super().forward(x)


def test_what_torch_calls_deprecated_in_itself_stops_nothing() -> None:
    found, expected = outputs(Deprecated(), "middle")
    assert_close(found, expected)


@pytest.mark.parametrize(
    "module",
    [
        *(InDataclass, InAnObject, AnyArguments),
        *(Autocast, AutocastInside, AutocastDecorator, Compiled, Inference),
    ],
)
@pytest.mark.parametrize("layer", ["middle", "head"])
def test_networks_that_are_traced_in_float32(module: type[nn.Module], layer: str) -> None:
    found, expected = outputs(module(), layer)
    assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_autocast_is_as_before_afterwards() -> None:
    ModelGraph(Autocast().eval(), SHAPE)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        assert Plain()(torch.zeros(1, *SHAPE)).dtype == torch.bfloat16


class ChoiceLater(Plain):
    def forward(self, x: Tensor) -> Any:
        y = self.middle(self.stem(x))
        if y.mean() > 0:
            y = -y
        return self.head(y)


class NumpyLater(Plain):
    def forward(self, x: Tensor) -> Any:
        y = self.middle(self.stem(x))
        return self.head(torch.from_numpy(y.numpy()))


class FailingLater(Plain):
    def forward(self, x: Tensor) -> Any:
        self.middle(self.stem(x))
        raise RuntimeError("no head")


@pytest.mark.parametrize("module", [ChoiceLater, NumpyLater, FailingLater])
def test_layers_before_what_cannot_be_traced(module: type[nn.Module]) -> None:
    found, expected = outputs(module(), "middle")
    assert_close(found, expected, rtol=1e-5, atol=1e-5)
    graph = ModelGraph(module().eval(), SHAPE)
    [remark] = graph.remarks
    assert "test_export.py:" in remark
    with pytest.raises(ModelError, match=r"layer 'head' .* cannot be traced .*test_export.py:"):
        graph.network("head")


class Again(Plain):
    """`middle` runs once more behind what cannot be traced."""

    def forward(self, x: Tensor) -> Any:
        y = self.middle(self.stem(x))
        if y.mean() > 1e9:
            y = -y
        return self.middle(y)


def test_a_module_that_may_run_again_later_is_refused() -> None:
    graph = ModelGraph(Again().eval(), SHAPE)
    assert graph.network("stem").target.shape == (8, 16, 16)
    with pytest.raises(ModelError, match=r"layer 'middle' .* cannot be traced"):
        graph.network("middle")


class Detector(nn.Module):
    """Takes a list of images, as torchvision's detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Plain()
        self.boxes = nn.Conv2d(5, 4, 1)

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        assert isinstance(images, list), "give a list of images"
        batch = torch.stack([nn.functional.interpolate(i[None], (8, 8))[0] / 2 for i in images])
        return [{"boxes": box} for box in self.boxes(self.backbone(batch))]


class Unrolled(nn.Module):
    """Gives its backbone the whole batch, and goes through the results one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Plain()
        self.boxes = nn.Conv2d(5, 4, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.boxes(y[None]) for y in self.backbone(images)]


@pytest.mark.parametrize("module", [Detector, Unrolled])
def test_the_part_that_takes_a_batch_is_traced(module: type[nn.Module]) -> None:
    model = module().eval()
    graph = ModelGraph(model, SHAPE)
    images = torch.randn((3, *SHAPE), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = Plain().eval()(images)
        assert_close(graph.network("backbone.head").output(images), expected)
    assert graph.root == "backbone"
    assert "from its module 'backbone' on" in graph.remarks[0]
    with pytest.raises(ModelError, match=r"layer 'boxes' .*name a layer inside 'backbone'"):
        graph.network("boxes")


def test_what_comes_before_the_batch_is_not_left_out_silently() -> None:
    class Normalised(Unrolled):
        def forward(self, images: Tensor) -> list[Tensor]:
            return super().forward(images / 2)

    with pytest.raises(ModelError, match="one by one"):
        ModelGraph(Normalised().eval(), SHAPE)


class Pyramid(nn.Module):
    """Maps of two sizes, as a detector of torchvision takes them of its backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = [4, 4]
        self.stem = nn.Conv2d(3, 4, 3, stride=4)
        self.block = nn.Conv2d(4, 4, 3, stride=2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        first = torch.relu(self.stem(x))
        return {"0": first, "1": self.block(first)}


def test_the_backbone_of_a_detector_of_torchvision() -> None:
    boxes = DefaultBoxGenerator([[2], [2]])
    graph = ModelGraph(SSD(Pyramid(), boxes, (64, 64), num_classes=3).eval(), (3, 64, 64))
    assert graph.root == "backbone"
    assert [site.name for site in graph.network("backbone.block").sites] == [
        "backbone.stem",
        "backbone.block",
    ]


@pytest.mark.parametrize("layer", ["middle", "module.middle", "_orig_mod.module.middle"])
def test_layers_have_the_names_that_wrappers_give_them(layer: str) -> None:
    graph = ModelGraph(Plain().eval(), SHAPE)
    assert graph.network(layer).target.shape == (8, 16, 16)
    assert graph.network(layer).layer == layer


def test_a_module_that_is_called_module_keeps_its_name() -> None:
    model = nn.Sequential()
    model.add_module("module", nn.Conv2d(3, 4, 3))
    model.add_module("second", nn.Conv2d(4, 6, 3))
    graph = ModelGraph(model.eval(), SHAPE)
    assert graph.network("module").target.shape[0] == 4
    assert graph.network("module.second").target.shape[0] == 6


class Moody(nn.Module):
    """Decides by a value which way to go: no graph says what it computes."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        print("on my way")  # noqa: T201
        y: Tensor = self.one(x) if bool(x.sum() > 0) else x
        return y


def test_a_model_that_decides_by_values_cannot_be_traced():
    with pytest.raises(ModelError, match="cannot be traced for images of 3 x 8 x 8"):
        ModelGraph(Moody().eval(), (3, 8, 8))


class Loud(nn.Conv2d):
    """Says something each time it runs."""

    def forward(self, x: Tensor) -> Tensor:
        print("on my way")  # noqa: T201
        return super().forward(x)


def test_a_models_own_words_go_to_stderr(capsys):
    ModelGraph(Loud(3, 2, 1).eval(), (3, 8, 8))
    assert capsys.readouterr() == ("", "on my way\n")


class Misfit(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x @ torch.zeros(3, 3)


class Exits(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        del x
        raise SystemExit(0)


@pytest.mark.parametrize("module", [Moody(), Misfit(), Exits()])
def test_torchs_own_account_of_a_failure_is_a_note_and_no_output(module, capsys):
    logged = io.StringIO()
    logger, handler = (
        logging.getLogger("torch._subclasses.fake_tensor"),
        logging.StreamHandler(logged),
    )
    logger.addHandler(handler)
    with pytest.raises(ModelError, match="cannot be traced") as caught:
        ModelGraph(module.eval(), (3, 8, 8))
    logger.removeHandler(handler)
    assert (capsys.readouterr(), logged.getvalue()) == (("", ""), "")
    assert ("def forward" in caught.value.__notes__[0]) == isinstance(module, Moody)


def test_networks_are_traced_in_threads_side_by_side() -> None:
    def traced(convolutions: int) -> list[str]:
        blocks = [nn.Conv2d(3, 3, 1) for _ in range(convolutions)]
        return list(ModelGraph(nn.Sequential(*blocks).eval(), SHAPE).layers)

    process = (sys.stdout, sys.stderr, torch.autocast.__enter__, logging.root.manager.disable)
    lengths = (3, 4, 5, 6) * 2
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(traced, lengths))
    assert [len(each) for each in found] == list(lengths)
    assert (sys.stdout, sys.stderr, torch.autocast.__enter__, logging.root.manager.disable) == (
        process
    )
