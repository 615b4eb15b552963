"""Links of pages to files of the repository, as the site turns them."""

from __future__ import annotations

import doctest
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
GALLERY = "docs/gallery/"


@pytest.fixture(scope="module")
def hook() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "repository_files", ROOT / "docs" / "repository_files.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_examples_hold(hook):
    assert doctest.testmod(hook).failed == 0


def test_links_inside_the_site_stay(hook):
    text = "[a](numbers.md#scores) [b](https://arxiv.org) ![c](images/circuit.png)"
    assert hook.with_site_links(text, "docs/pages/index.md") == text


def test_files_of_the_repository_are_there(hook):
    for path in hook.SITE_PATHS:
        assert (ROOT / path).exists(), path


def test_each_of_them_is_linked_to_from_a_page(hook):
    linking = [*(ROOT / "docs" / "pages").glob("*.md"), ROOT / GALLERY / "README.md"]
    pages = "".join(path.read_text(encoding="utf-8") for path in linking)
    for path in hook.SITE_PATHS:
        paths = (f"../../{path}", f"../{path.removeprefix('docs/')}", path.removeprefix(GALLERY))
        assert any(f"]({one})" in pages for one in paths), path
