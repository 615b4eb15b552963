"""A part of the zoo that takes two minutes: families that cover distinct operations."""

from __future__ import annotations

import warnings

import pytest

from tests.zoo.__main__ import PAGE, read_results
from tests.zoo.networks import networks
from tests.zoo.page import page, refused_families
from tests.zoo.trial import TOLERANCE, try_network

BY_KEY = {network.key: network for network in networks()}
# Families of a hundred that may be refused.
MOST_REFUSED = 0.02

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
    "torchvision:mobilenet_v3_small",  # hard sigmoid and swish
    "torchvision:lraspp_mobilenet_v3_large.backbone",
    "timm:mixnet_s",  # parts of the channels by kernels of several sizes
    "timm:resnetv2_50x1_bit",  # standardised weights, group norm
    "timm:resnest14d",  # attention over splits
    "timm:skresnet18",  # softmax over kernels
    "timm:mobilevit_xxs",  # patches and attention between convolutions
    "timm:test_maxvit",  # windows and grids
    "timm:inception_next_atto",  # bands of kernels
    "timm:convnextv2_atto",  # layer norm over channels, global response norm
]


@pytest.mark.parametrize("key", TRIED)
@pytest.mark.filterwarnings("ignore")
def test_a_network_gives_what_the_oracle_gives(key):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = try_network(BY_KEY[key])
    assert found.refused == ""
    assert found.error is not None
    assert found.error <= TOLERANCE


def test_the_page_tells_what_was_found():
    found = read_results()
    assert found.keys() <= BY_KEY.keys()
    assert PAGE.read_text(encoding="utf-8") == page(list(found.values()))


def test_nothing_is_wrong_and_few_families_are_refused():
    found = list(read_results().values())
    assert [trial.key for trial in found if trial.state == "wrong"] == []
    refused, families = refused_families(found)
    assert len(refused) <= MOST_REFUSED * len(families)
