"""A unit's page shows the circuits that were trained for its groups, as it shows others."""

from __future__ import annotations

import pytest

from circuit_atlas.jobs.planted.networks import polysemantic
from tests.service.compute.test_learned_groups import stored


@pytest.fixture(scope="module")
def trained(tmp_path_factory, serve):
    location = tmp_path_factory.mktemp("trained") / "atlas"
    stored(polysemantic(0), location, learned={"steps": 2})
    return serve(location)


def test_groups_have_the_circuits_that_were_trained_for_them(trained, tab):
    tab.open(trained.link("unit", layer="last", unit=1, criterion="learned", keep=0.1))
    tab.settled()
    part = tab.page.get_by_role("region", name="Sub-features", exact=True)
    groups = trained.atlas.layer("last").unit(1).groups(criterion="learned")
    assert part.locator(".group").count() == len(groups) == 3
    assert "3 groups, silhouette 0.98" in part.inner_text()
    part.get_by_role("link", name="Show its circuit").first.click()
    shown = tab.page.get_by_role("region", name="Circuit", exact=True)
    shown.get_by_text("10 of 104 kernels").wait_for()
    tab.settled()
    assert "for group A, 5 images" in shown.inner_text()
    counts = [int(row.locator("td").first.inner_text()) for row in shown.locator("tbody tr").all()]
    assert counts == groups[0].circuit(keep=0.1).by_convolution()["kernels"].to_pylist()
    tab.page.get_by_label("Groups").select_option("2")
    tab.settled()
    assert "Groups that are found anew have no learned circuits" in part.inner_text()
