"""What the README says is so: its spec, its commands, its Python."""

from __future__ import annotations

import json
import re
from pathlib import Path

from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.service import Atlas, Circuit, Layer, Unit
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.service.commands.reference import commands_markdown

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def test_the_two_commands_stand_first():
    assert _blocks("sh")[:2] == [
        "python -m pip install '.[all]' && circuit-atlas demo\n",
        "python -m pip install -e '.[all,test]' && python -m pytest\n",
    ]


def test_the_example_spec_is_a_spec():
    (text,) = _blocks("toml")
    spec = BuildSpec.from_toml(text)
    assert spec.layers[0].units == "0:64:2"
    assert spec.layers[1].units == (0, 5, 7)


def test_the_example_spec_shows_the_defaults():
    (text,) = _blocks("toml")
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


def test_the_example_spec_knows_every_key():
    (text,) = _blocks("toml")
    for name, section in BuildSpec.model_fields.items():
        assert re.search(rf"^\[+{name}\]", text, re.MULTILINE)
        kind = next(
            inner
            for inner in (section.annotation, *getattr(section.annotation, "__args__", ()))
            if hasattr(inner, "model_fields")
        )
        for key in kind.model_fields:
            assert re.search(rf"^(# )?{key} = |^\[{name}\.{key}\]", text, re.MULTILINE), key


def test_the_table_of_commands_is_that_of_the_commands():
    found = re.search(r"<!-- commands: .*? -->\n\n(.*?)\n\n<!-- end of commands -->", README, re.S)
    assert found is not None
    assert found.group(1) == commands_markdown(cli), (
        "run python -m circuit_atlas.service.commands.reference, "
        "and put what it prints in the README"
    )


def test_the_calls_in_the_table_of_python_are_there():
    (table,) = re.findall(r"## Python\n(.*?)\n## ", README, re.DOTALL)
    kinds = {"atlas": Atlas, "layer": Layer, "unit": Unit, "circuit": Circuit, "a": Circuit}
    calls = re.findall(rf"\b({'|'.join(kinds)})\.(\w+)", table.replace("Atlas", "atlas"))
    assert len(calls) > 15
    for name, attribute in calls:
        assert hasattr(kinds[name], attribute), f"{name}.{attribute}"


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (Path(__file__).parents[1] / target).exists()


def test_the_table_of_speed_is_that_of_the_results():
    results = Path(__file__).parent / "benchmarks" / "results.json"
    rows = json.loads(results.read_text(encoding="utf-8"))["rows"]
    measured = [float(f"{row['ratio']:.2g}") for row in rows if row["ratio"] is not None]
    table = README.partition("| one thread of")[2].partition("\n\n")[0].splitlines()[2:]
    told = [float(number) for line in table for number in line.split("|")[4].split(",")]
    assert told == measured
