"""Networks of the zoo that differ in their convolutions, norms and shortcuts."""

from __future__ import annotations

import pytest

from tests.zoo.agreement import assert_agrees

TRIED = [
    "form:CORnet-S",  # one convolution at two strides, several norms
    "form:CORnet-RT",  # group norm, modules called several times
    "form:ResNet-20, option A",  # padded channels
    "form:WideResNet-16-4",
    "form:U-Net, batch norm",  # transposed convolutions
    "form:U-Net, instance norm",  # enlargement between pixels
    "form:CondConv",  # weights from the image, images folded into groups
    "form:deformable convolutions",
    "torchvision:shufflenet_v2_x0_5",  # shuffled channels
    "timm:inception_next_atto",  # parts of the channels by kernels of several sizes
    "timm:test_convnext2",  # layer norm over channels, global response norm
]


@pytest.mark.parametrize("key", TRIED)
@pytest.mark.filterwarnings("ignore")
def test_a_network_gives_what_the_oracle_gives(key):
    assert_agrees(key)
