"""The glossary of the pages is that of the documentation, and what links to it finds a word."""

from __future__ import annotations

import re
import runpy
from importlib.resources import files
from pathlib import Path

ROOT = Path(__file__).parents[2]
VIEWER = files("circuit_atlas.service") / "viewer"


def test_the_glossary_of_the_pages_is_that_of_the_documentation():
    made = runpy.run_path(str(ROOT / "docs" / "glossary_words.py"))
    text = (ROOT / "docs" / "pages" / "glossary.md").read_text()
    assert (VIEWER / "glossary_words.js").read_text() == made["module"](text), (
        "run python docs/glossary_words.py > service/viewer/glossary_words.js"
    )
    words = made["words"](text)
    assert len({anchor for anchor, _, _ in words}) == len(words) == text.count("\n: ")
    assert not [meaning for _, _, meaning in words if "](" in meaning]


def test_what_links_to_the_glossary_finds_a_word():
    anchors = set(re.findall(r'^  \["([a-z-]+)"', (VIEWER / "glossary_words.js").read_text(), re.M))
    used = set()
    for path in sorted(Path(str(VIEWER)).rglob("*.js")):
        source = path.read_text()
        used |= set(re.findall(r'\bterm\("[^"]*", "([^"]*)"\)', source))
        sentences = re.findall(r'\b(?:note|text):\s*("[^"\n]*"|`[^`]*`)', source)
        sentences += re.findall(r'\bexplained\(("[^"\n]*"|`[^`]*`)', source)
        for sentence in sentences:
            for link in re.findall(r"\[([^\]]+)\]", sentence):
                text, _, anchor = link.partition("|")
                used.add(anchor or text.lower().replace(" ", "-"))
    assert len(used) > 20
    assert used <= anchors
