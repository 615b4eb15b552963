"""Examples in pages and docstrings, and an atlas in a folder in which they run."""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from circuit_atlas import service
from circuit_atlas.cluster.local_executor import LocalExecutor
from circuit_atlas.cluster.run import build
from circuit_atlas.jobs.demo import squeezenet1_1
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "pages").glob("*.md"))]
LAYER = "features.7.expand3x3"
NEEDS = "# Needs "
"""Begins a block that no test can run, and says why: a cluster, a bucket."""


@dataclass(frozen=True)
class Example:
    """Holds one block of code, and the page or module it stands in."""

    where: str
    code: str

    @property
    def runs(self) -> bool:
        """Tells whether it needs nothing that a test has not."""
        return not self.code.startswith(NEEDS)


def in_pages(language: str) -> list[Example]:
    """Lists the blocks of one language, in the order of the pages."""
    return [
        Example(page.name, code)
        for page in PAGES
        for code in re.findall(
            rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S
        )
    ]


def in_pages_of(language: str, page: str) -> list[Example]:
    """Lists those of one page, also what does not run."""
    return [example for example in in_pages(language) if example.where == page]


def in_docstrings() -> Iterator[Example]:
    """Gives the blocks of Python in docstrings, module by module."""
    for package in ("storage_schema", "jobs", "cluster", "service"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                    text = ast.get_docstring(node) or ""
                    for code in re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S):
                        yield Example(str(path.relative_to(ROOT)), code)


def in_tables_of_calls() -> list[Example]:
    """Lists the calls of the page's tables, one after the other."""
    page = ROOT / "docs" / "pages" / "python.md"
    tables = re.findall(
        r"^\| call \| gives \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page.read_text("utf-8"), re.M
    )
    cells = [row.split(" | ")[0] for table in tables for row in table.splitlines()]
    examples: list[Example] = []
    for cell in cells:
        for plain, marked in re.findall(r"`(.+?)`|<code>(.+?)</code>", cell):
            code = html.unescape(plain or marked)
            if code.startswith("."):  # goes on from the one before
                code = examples.pop().code + code
            examples.append(Example(page.name, code))
    return examples


def make_folder(folder: Path) -> None:
    """Puts two of the demo's units, on its photos made small, where examples look for them, with
    the spec that they are of."""
    spec = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "preprocessing": {"resize": [64, 64]},
            "images": {"source": "demo:photos", "held_out": "odd"},
            "layers": [
                {
                    "name": LAYER,
                    "units": [48, 64, 80],
                    "directions": {"curve": [0.5, -0.25, *[0.0] * 126]},
                }
            ],
            "circuits": {
                "criteria": ["actgrad", "snip", "learned", "random"],
                "fractions": [1.0, 0.1],
                "top_images": 10,
            },
            "learned": {"steps": 1, "groups": True},
            "run": {"store": str(folder / "circuit-atlas-demo"), "self_check": False},
        }
    )
    assert build(spec, executor=LocalExecutor()).done == 4
    (folder / "spec.toml").write_text(spec.to_toml(), encoding="utf-8")
    for other in ("epoch-10", "epoch-90"):
        (folder / other).symlink_to("circuit-atlas-demo")


def names_at_hand() -> dict[str, Any]:
    """What an example that begins in the middle takes as given."""
    atlas = Atlas.open("circuit-atlas-demo")
    unit = atlas[LAYER][48]  # has two groups
    circuit = unit.circuit(0.1)
    model = squeezenet1_1()
    return {
        **{name: getattr(service, name) for name in service.__all__},
        "location": "circuit-atlas-demo",
        "name": LAYER,
        "atlas": atlas,
        "layer": atlas[LAYER],
        "unit": unit,
        "circuit": circuit,
        "a": circuit,
        "b": atlas[LAYER][80].circuit(0.1),
        "other": atlas,
        "model": model,
        "state": model.state_dict(),
        "images": atlas.image_tensor(range(20)),
    }
