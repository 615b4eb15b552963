"""The gallery's page, figures and numbers belong together, and no picture in them is another's."""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import io
import json
import re
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from types import ModuleType

import pytest
from PIL import Image

GALLERY = Path(__file__).parents[2] / "docs" / "gallery"
FIGURES = sorted((GALLERY / "figures").glob("*.svg"))
NUMBERS = json.loads((GALLERY / "figures" / "numbers.json").read_text(encoding="utf-8"))
PAGE = (GALLERY / "README.md").read_text(encoding="utf-8")


def _script(name: str) -> ModuleType:
    """One of the gallery's scripts; their names stay out of the other tests' way."""
    known = f"gallery_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, GALLERY / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[known] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[known])
    return sys.modules[known]


def test_the_page_is_the_text_with_the_numbers_of_the_run():
    assert _script("make").page(NUMBERS) == PAGE


def test_a_number_that_changed_shows():
    other = {**NUMBERS, "one": {**NUMBERS["one"], "r": "another"}}
    assert _script("make").page(other) != PAGE


def test_the_text_has_no_measured_number_of_its_own():
    text = (GALLERY / "stories.md").read_text(encoding="utf-8")
    words = re.sub(r"\{\w+\[\w+\]\}|SqueezeNet 1\.1|`[^`]*`|\]\([^)]*\)|CC0|\b50\b", "", text)
    assert re.findall(r"\d+", words) == []


def test_every_figure_is_in_the_page_and_is_of_the_run():
    assert re.findall(r"\]\(figures/([\w-]+\.svg)\)", PAGE) == list(NUMBERS["figures"])
    assert {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FIGURES} == (
        NUMBERS["figures"]
    )


def test_the_readme_says_of_its_picture_what_the_run_measured():
    readme = (GALLERY.parents[1] / "README.md").read_text(encoding="utf-8")
    (caption,) = re.findall(r"^\*A circuit of .*\*$", readme, re.MULTILINE)
    for name in ("unit", "kernels", "carried", "drawn"):
        assert re.search(rf"\b{re.escape(NUMBERS['one'][name])}(?!\w)", caption), name


@pytest.mark.parametrize("path", FIGURES, ids=lambda path: path.stem)
def test_a_figure_is_a_whole_file_with_whole_pictures(path):
    root = ET.fromstring(path.read_text(encoding="utf-8"))
    assert root.tag.endswith("svg")
    links = [
        link
        for element in root.iter()
        for name, link in element.attrib.items()
        if name.endswith("href") and not link.startswith("#")
    ]
    assert links
    for link in links:
        kind, _, data = link.partition(";base64,")
        assert kind in ("data:image/jpeg", "data:image/png")
        with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
            picture.verify()
    assert path.stat().st_size < 1_000_000


def test_only_free_photos_are_taken_and_the_page_names_each():
    licences = _script("pictures").LICENCES
    for file, licence in licences.items():
        assert licence in ("CC0", "public domain")
        assert f"| `{file}` | {licence} |" in PAGE
    assert len(re.findall(r"^\| `[\w.]+` \| ", PAGE, re.MULTILINE)) == len(licences)


def test_no_other_image_set_is_used():
    code = "".join(path.read_text(encoding="utf-8") for path in GALLERY.glob("*.py"))
    assert '"source": str(pictures)' in code
    assert "demo:photos" not in code
    assert "foolbox" not in code


def test_drawn_pictures_are_the_same_each_time_and_differ_from_each_other(monkeypatch):
    pictures = _script("pictures")
    monkeypatch.setattr(pictures, "LICENCES", {})
    drawn = [list(pictures._pictures()) for _ in range(2)]
    first, again = ([(a, b, c.tobytes()) for a, b, c in one] for one in drawn)
    assert first == again
    assert len({data for _, _, data in first}) == len(first) == 36
