"""Networks of the zoo with attention, gates and weights that are computed."""

from __future__ import annotations

import pytest

from tests.zoo.agreement import assert_agrees

TRIED = [
    "timm:test_efficientnet",  # gates by global pooling
    "timm:test_nfnet",  # standardised weights
    "timm:resnest14d",  # attention over splits
    "timm:mobilevit_xxs",  # patches and attention between convolutions
    "timm:test_maxvit",  # windows and grids
]


@pytest.mark.parametrize("key", TRIED)
@pytest.mark.filterwarnings("ignore")
def test_a_network_gives_what_the_oracle_gives(key):
    assert_agrees(key)
