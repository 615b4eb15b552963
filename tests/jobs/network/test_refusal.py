"""What is said of a model that cannot be traced: the cause, its line and the way round."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from circuit_atlas.jobs.network.model_graph import ModelGraph
from circuit_atlas.storage_schema.errors import ModelError

SHAPE = (3, 16, 16)


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.middle = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Conv2d(8, 5, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self.middle(self.stem(x)))


class Clips(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.stem(x)
        return y


class UnpackedClips(Clips):
    def forward(self, x: Tensor) -> Tensor:
        images, channels, time, height, width = x.shape
        y: Tensor = self.stem(x.reshape(images, channels, time, height, width))
        return y


class Half(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.half())


class Double(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.double())


class Choice(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x if x.mean() > 0 else -x)


class Number(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x * int(x.sum().item()))


class InNumpy(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(torch.from_numpy(x.numpy()[:, ::-1].copy()))


class OneByOne(Plain):
    def forward(self, x: Tensor) -> Any:
        return torch.cat([self.head(self.middle(self.stem(image[None]))) for image in x])


class TwoImages(Plain):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x.view(2, 3, 256).view(2, 3, 16, 16))


class ListOfImages(Plain):
    def forward(self, x: list[Tensor]) -> Any:
        assert isinstance(x, list)
        return super().forward(torch.stack(x))


class Labels(Plain):
    def forward(self, x: Tensor, labels: Tensor) -> Any:
        return super().forward(x) + labels


class Table(Plain):
    def forward(self, x: Any) -> Any:
        return super().forward(x["images"])


class OtherChannels(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 8, 3)


class OwnWords(Plain):
    def forward(self, x: Tensor) -> Any:
        raise ValueError(f"not\ntoday, {x.dim()}")


class Leaving(Plain):
    def forward(self, x: Tensor) -> Any:
        raise SystemExit(f"bye, {x.dim()}")


@pytest.mark.parametrize(
    ("module", "said", "way_round"),
    [
        (Clips, "RuntimeError: Given groups=1", "it takes clips of several images: return a mod"),
        (UnpackedClips, "not enough values to unpack", "it takes clips of several images"),
        (Half, "Half", "leave the cast to another precision out, or put .float() behind it"),
        (Double, "type (double)", "leave the cast to another precision out"),
        (Choice, "data-dependent", "depends on the values at that line"),
        (Number, "data-dependent", "depends on the values at that line"),
        (InNumpy, "numpy", "write it with torch's operations"),
        (OneByOne, "Constraints violated", "takes the images of a batch one by one, or a fixed"),
        (TwoImages, "shape '[2, 3, 256]' is invalid", "with x.shape[0] for their number"),
        (ListOfImages, "AssertionError", "it takes a list of images: return a module that takes"),
        (Labels, "missing 1 required positional argument: 'labels'", "is called with images al"),
        (Table, "IndexError", "it is called with images alone"),
        (OtherChannels, "expected input", "images of another size or number of channels"),
        (OwnWords, "ValueError: not today", "torch.export must be able to follow it with a"),
        (Leaving, "SystemExit: bye", "torch.export must be able to follow it with a"),
    ],
)
def test_the_cause_its_line_and_the_way_round(
    module: type[nn.Module], said: str, way_round: str
) -> None:
    with pytest.raises(ModelError) as caught:
        ModelGraph(module().eval(), SHAPE)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith("the model cannot be traced for images of 3 x 16 x 16: ")
    assert said in line
    assert way_round in line
    if module not in (OneByOne, Labels):
        assert "test_refusal.py:" in line
