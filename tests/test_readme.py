"""What the README says is so: its commands, its spec, its links."""

from __future__ import annotations

import re
from pathlib import Path

from circuit_atlas.jobs.spec.build_spec import BuildSpec

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_first():
    assert _blocks("sh")[:2] == [
        "python -m pip install '.[all]' && circuit-atlas demo\n",
        "python -m pip install -e '.[all,test]' && python -m pytest\n",
    ]


def test_the_short_spec_is_a_spec():
    (text,) = _blocks("toml")
    assert BuildSpec.from_toml(text).layers[0].units == "all"


def test_links_lead_to_files():
    targets = re.findall(r"\]\((?!https?:)([^)]+)\)", README)
    assert "docs/pages/index.md" in targets
    for target in targets:
        assert (ROOT / target).exists(), target
