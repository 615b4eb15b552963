"""What titles say of a circuit."""

from __future__ import annotations

import pytest

from circuit_atlas.service.diagram.titles import share, wrapped
from circuit_atlas.storage_schema.ranking import kernels_kept


@pytest.mark.parametrize("whole", [11, 444, 27_872])
@pytest.mark.parametrize("percent", ["100", "50", "12.5", "5", "0.2"])
def test_a_share_is_the_kept_fraction_that_was_asked_for(whole, percent):
    kept = kernels_kept(float(percent) / 100, whole)
    said = float(share(kept, whole).removesuffix(" %"))
    assert kernels_kept(said / 100, whole) == kept
    if whole > 20_000:
        assert said == float(percent)
    assert share(0, 0) == "0 %"


def test_lines_are_whole_words():
    text = "features.7.expand3x3/100 actgrad of images 1, 2 and 3"
    lines = wrapped(text, 20)
    assert " ".join(lines) == text
    assert [len(line) <= 20 for line in lines] == [False, True, True]
    assert wrapped("", 5) == [""]
