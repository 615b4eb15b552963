"""What pages and docstrings show of Python and of the command line runs as it stands there."""

from __future__ import annotations

import doctest
import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from click import UsageError
from torch import nn

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands.cli import cli, main
from circuit_atlas.service.commands.examples import EXAMPLES
from tests.docs import examples
from tests.docs.examples import ROOT, Example
from tests.service.stores import served

ADDRESS = "http://127.0.0.1:8000"
"""Where the pages have a server."""
# Of a page of its own: `test_recipe` runs these.
RECIPE = "contributing.md"
# Run until they are ended, or longer than a test may.
ENDLESS = {"open", "serve"}
LONG = {"demo", "features"}
# As above, with what is planted in small networks, ten seconds.
LONG_LINES = {"circuit-atlas compare spec.toml"}
# Each follows a network through torch, which takes seconds; the blocks do it once.
TRACING = re.compile(r"^find_circuit\(|^transfer\(|\.extract\(|\.evaluate\(")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has what the examples expect in the folder that they run in."""
    made: Path = tmp_path_factory.mktemp("examples")
    examples.make_folder(made)
    return made


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    """Where a server of the atlas answers."""
    from circuit_atlas.service.web.app import create_app

    with served(create_app(Atlas.open(folder / "circuit-atlas-demo"))) as address:
        yield address


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs a test in the folder; figures are drawn without a screen."""
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(folder)


def _run(example: Example, names: dict[str, Any]) -> None:
    exec(compile(example.code, example.where, "exec"), names)


def _of_page(language: str) -> dict[str, list[Example]]:
    """Blocks that run here, by page."""
    pages: dict[str, list[Example]] = {}
    for example in examples.in_pages(language):
        if example.runs:
            pages.setdefault(example.where, []).append(example)
    return pages


def _lines(blocks: list[Example]) -> list[list[str]]:
    """The words of each line of a shell, without comments."""
    code = "\n".join(block.code for block in blocks).replace("\\\n", " ").replace(" && ", "\n")
    words = [shlex.split(line, comments=True) for line in code.splitlines()]
    return [line for line in words if line]


PYTHON = _of_page("python")
SHELL = _of_page("sh")


@pytest.mark.parametrize("page", sorted(set(PYTHON) - {RECIPE}))
def test_python_of_a_page_runs_from_top_to_bottom(page, address):
    names = examples.names_at_hand()
    for example in PYTHON[page]:
        _run(Example(page, example.code.replace(ADDRESS, address)), names)


def test_python_writes_the_files_that_it_names(folder):
    """After the pages: the circuits, tables and drawings of python.md."""
    written = {path.name for path in folder.iterdir()}
    named = {"unit64.html", "units.csv", "unit64.json", "unit64.png", "unit64-both.html"}
    assert named | {"circuit.onnx", "excites.svg", "comparison"} <= written


def test_calls_in_tables_run():
    names = examples.names_at_hand()
    calls = examples.in_tables_of_calls()
    assert len(calls) > 80
    for call in calls:
        compile(call.code, call.where, "eval")
        if not TRACING.search(call.code):
            _run(call, names)


def test_python_in_docstrings_runs():
    found = list(examples.in_docstrings())
    assert len(found) > 10
    for example in found:
        # A network of its own, where nothing else is needed, takes less than the demo's.
        _run(example, {**examples.names_at_hand(), **_small()})


def test_examples_of_docstrings_give_what_they_say():
    modules = [
        f"circuit_atlas.{'.'.join(path.relative_to(ROOT).with_suffix('').parts)}"
        for package in ("storage_schema", "jobs", "cluster", "service")
        for path in sorted((ROOT / package).rglob("*.py"))
        if ">>> " in path.read_text(encoding="utf-8")
    ]
    assert len(modules) > 30
    for module in modules:
        result = doctest.testmod(importlib.import_module(module))
        assert result.attempted > 0
        assert result.failed == 0, module


@pytest.mark.parametrize("page", sorted(SHELL))
def test_commands_of_a_page_are_complete(page):
    for words in _lines(examples.in_pages_of("sh", page)):
        match words:
            case ["circuit-atlas", name, *arguments]:
                cli.commands[name].make_context(name, arguments)
            case ["python", "-m", "pip", "install", *arguments]:
                assert _extras(arguments[-1]) <= _known_extras()
            case ["python", "-m", module, *arguments] if module.startswith("tests."):
                _check_options(ROOT / module.replace(".", "/"), arguments)
            case [program, *_] if program.startswith(".ci/"):
                assert (ROOT / program).exists()


@pytest.mark.parametrize("page", sorted(SHELL))
def test_commands_of_a_page_run(page, address):
    """Those that end, and take no more than a second or two."""
    for words in _lines(SHELL[page]):
        if words[0] == "curl":
            assert httpx.get(words[1].replace(ADDRESS, address)).status_code == 200
        if words[0] == "circuit-atlas" and not _is_long(words):
            assert main(words[1:]) == 0, words


def test_a_command_that_a_page_got_wrong_shows():
    for wrong in (["--colour", "red"], []):
        with pytest.raises(UsageError):
            cli.commands["show"].make_context("show", wrong)


def test_every_command_has_an_example():
    assert set(EXAMPLES) == set(cli.commands)
    for name, code in EXAMPLES.items():
        assert {words[1] for words in _lines([Example(name, code)])} == {name}


def test_commands_in_prose_have_such_options():
    spans = {
        span
        for page in examples.PAGES
        for span in re.findall(r"`circuit-atlas ([^`]+)`", page.read_text(encoding="utf-8"))
    }
    assert len(spans) > 20
    for name, *arguments in map(str.split, spans):
        if name != "--help":
            known = {option for each in cli.commands[name].params for option in each.opts}
            assert {each for each in arguments if each.startswith("--")} <= known, name


def test_few_examples_do_not_run_and_each_says_why():
    needy = [
        example
        for language in ("python", "sh")
        for example in examples.in_pages(language)
        if not example.runs
    ]
    assert len(needy) <= 6
    for example in needy:
        assert re.match(r"# Needs [^\n]+\.\n", example.code), example


def _is_long(words: list[str]) -> bool:
    return words[1] in ENDLESS | LONG or " ".join(words) in LONG_LINES


def _small() -> dict[str, Any]:
    """A network with a `features.6` of 16 channels, and images for it."""
    torch.manual_seed(0)
    steps = [nn.Conv2d(3, 8, 3), *(nn.ReLU() for _ in range(5)), nn.Conv2d(8, 16, 3)]
    model = nn.Sequential()
    model.features = nn.Sequential(*steps)
    images = torch.rand((8, 3, 16, 16), generator=torch.Generator().manual_seed(0))
    return {"torch": torch, "model": model.eval(), "images": images}


def _extras(requirement: str) -> set[str]:
    found = re.search(r"\[(.+)\]", requirement)
    return set(found[1].split(",")) if found else set()


def _known_extras() -> set[str]:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    section = text.partition("[project.optional-dependencies]")[2].partition("\n[")[0]
    return set(re.findall(r"^(\w+) = ", section, re.MULTILINE))


def _check_options(package: Path, arguments: list[str]) -> None:
    """A package of the tests that is a program has the options that a line gives it."""
    assert (package / "__main__.py").exists()
    source = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    for option in arguments:
        if option.startswith("--"):
            assert f'"{option}"' in source, option
