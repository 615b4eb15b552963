"""The table of the zoo, as it was last written."""

from __future__ import annotations

from tests.zoo.__main__ import PAGE, read_results
from tests.zoo.networks import networks
from tests.zoo.page import page, refused_families

# Families of a hundred that may be refused.
MOST_REFUSED = 0.02


def test_the_page_tells_what_was_found():
    found = read_results()
    assert found.keys() <= {network.key for network in networks()}
    assert PAGE.read_text(encoding="utf-8") == page(list(found.values()))


def test_nothing_is_wrong_and_few_families_are_refused():
    found = list(read_results().values())
    assert [trial.key for trial in found if trial.state == "wrong"] == []
    refused, families = refused_families(found)
    assert len(refused) <= MOST_REFUSED * len(families)


def test_at_least_sixty_families_of_timm_were_tried():
    families = {trial.family for key, trial in read_results().items() if key.startswith("timm:")}
    assert len(families) >= 60
