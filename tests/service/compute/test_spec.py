"""A spec with another store or other units in place of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_atlas.service.compute.spec import load_spec
from circuit_atlas.storage_schema.errors import SpecError


def test_stores_and_units_replace_the_specs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[model]\nreference = "demo:squeezenet1_1"\n[images]\nsource = "pictures"\n'
        '[[layers]]\nname = "features.3.squeeze"\nunits = [1]\n[run]\nstore = "here"\n'
    )
    monkeypatch.chdir("/")
    assert load_spec(spec).run.store == str(tmp_path / "here")
    changed = load_spec(spec, store="there", units="0,8")
    assert changed.run.store == str(Path("/there"))
    assert changed.layers[0].units == (0, 8)
    assert changed.images.source == str(tmp_path / "pictures")
    assert load_spec(spec, store="s3://b/a").run.store == "s3://b/a"
    with pytest.raises(SpecError, match="units 'many' cannot be read"):
        load_spec(spec, units="many")
    with pytest.raises(SpecError, match="units"):
        load_spec(spec, units="0:4:0")
    with pytest.raises(SpecError, match="store '' is empty"):
        load_spec(spec, store="")
    given = load_spec(load_spec(spec, store=Path("there")), units=[2, 3])
    assert given.run.store == changed.run.store
    assert given.layers[0].units == (2, 3)
