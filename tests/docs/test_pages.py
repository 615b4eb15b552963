"""What the pages say is so: the spec, the commands, the calls, the addresses, the figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas, Circuit, Layer, Unit
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.service.commands.reference import page
from circuit_atlas.storage_schema import errors

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "pages"
PATHS = ("classifier.1", "features.3.expand3x3", "features.9.expand3x3")


def _text(name: str) -> str:
    return (PAGES / name).read_text(encoding="utf-8")


def _blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", _text(name), re.MULTILINE | re.DOTALL)


def _spec() -> str:
    """The spec with every key that the page begins with; what follows are parts of others."""
    return _blocks("spec.md", "toml")[0]


def test_the_spec_of_the_page_is_a_spec():
    text = _spec()
    spec = BuildSpec.from_toml(text)
    assert spec.layers[0].units == "0:64:2"
    assert spec.layers[1].units == (0, 5, 7)


def test_the_spec_of_the_page_shows_the_defaults():
    text = _spec()
    spec = BuildSpec.from_toml(text)
    least = BuildSpec.from_values(
        {
            "model": {"reference": "demo:squeezenet1_1"},
            "images": {"source": "demo:photos"},
            "layers": [{"name": "features.3.squeeze"}],
        }
    )
    assert spec.circuits == least.circuits
    assert spec.run == least.run
    assert spec.images.held_out == least.images.held_out
    assert spec.model.pretrained == least.model.pretrained


def test_the_spec_of_the_page_knows_every_key():
    text = _spec()
    for name, section in BuildSpec.model_fields.items():
        assert re.search(rf"^\[+{name}\]", text, re.MULTILINE)
        kind = next(
            inner
            for inner in (section.annotation, *getattr(section.annotation, "__args__", ()))
            if hasattr(inner, "model_fields")
        )
        for key in kind.model_fields:
            assert re.search(rf"^(# )?{key} = |^\[{name}\.{key}\]", text, re.MULTILINE), key


def test_the_layers_of_the_page_are_those_that_it_says():
    _, layers = _blocks("spec.md", "toml")
    spec = BuildSpec.from_toml(_spec().partition("[[layers]]")[0] + layers)
    units = {name: table.units for name in PATHS if (table := spec.layer(name))}
    assert units == dict(zip(PATHS, ("all", "0:64:8", "all"), strict=True))


def test_the_shortest_spec_is_a_spec():
    spec = BuildSpec.from_toml(_blocks("your-model.md", "toml")[0])
    assert spec.layers[0].units == "all"


def test_the_page_of_commands_is_that_of_the_commands():
    assert _text("command-line.md").rstrip("\n") == page(cli), (
        "run python -m circuit_atlas.service.commands.reference > docs/pages/command-line.md"
    )


def test_the_calls_in_the_table_of_python_are_there():
    table = "".join(re.findall(r"^\|.*\n", _text("python.md"), re.MULTILINE))
    kinds = {"atlas": Atlas, "layer": Layer, "unit": Unit, "circuit": Circuit, "a": Circuit}
    calls = re.findall(rf"\b({'|'.join(kinds)})\.(\w+)", table.replace("Atlas", "atlas"))
    assert len(calls) > 15
    for name, attribute in calls:
        assert hasattr(kinds[name], attribute), f"{name}.{attribute}"


def test_the_table_of_errors_is_the_tree_of_errors():
    rows = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", _text("python.md"), re.MULTILINE)
    told = {parent: set(re.findall(r"`(\w+)`", kinds)) for parent, kinds in rows}
    assert told == {
        parent.__name__: {kind.__name__ for kind in _own(parent)}
        for parent in _own(errors.AtlasError)
    }


def _own(parent: type[errors.AtlasError]) -> list[type[errors.AtlasError]]:
    """Its kinds, without those that another test's imports brought in, such as the server's."""
    return [kind for kind in parent.__subclasses__() if kind.__module__ == errors.__name__]


def test_the_addresses_of_the_table_are_served():
    pytest.importorskip("fastapi")
    from circuit_atlas.service.web import app

    table = _text("http.md").partition("| address below")[2].partition("\n\n")[0]
    told = set(re.findall(r"`(/[^`]*)`", table)) - {"/api/v1"}
    parts = {name: part for name, part in vars(app).items() if name.endswith("_routes")}
    served = {
        re.sub(r":\w+}", "}", route.path) for part in parts.values() for route in part.router.routes
    }
    assert len(told) > 15
    assert told - served == set()


def test_the_table_of_speed_is_that_of_the_results():
    results = ROOT / "tests" / "benchmarks" / "results.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    measured = [float(f"{row['ratio']:.2g}") for row in rows if row["ratio"] is not None]
    table = _text("speed.md").partition("| one thread of")[2].partition("\n\n")[0].splitlines()[2:]
    told = [float(number) for line in table for number in line.split("|")[4].split(",")]
    assert told == measured


@pytest.mark.parametrize("name", sorted(path.name for path in PAGES.glob("*.md")))
def test_links_lead_to_files(name):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", _text(name)):
        assert (PAGES / target).exists(), target
