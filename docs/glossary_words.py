"""The glossary as a module of the viewer, which has no other page of the documentation with it:

python docs/glossary_words.py > service/viewer/glossary_words.js
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

GLOSSARY = Path(__file__).parent / "pages" / "glossary.md"
_ENTRY = re.compile(r"^\*\*(.+?)\*\*\n: (.+)$", re.M)
_LINKS = re.compile(r" See \[[^\]]*\]\([^)]*\)\.")
_OTHER = re.compile(r"\[([^\]]*)\]\([^)]*\)|\*([^*]+)\*")


def words(text: str) -> list[list[str]]:
    """Return anchor, word and meaning of each entry; links, which lead to other pages, as text."""
    entries = []
    for word, meaning in _ENTRY.findall(text):
        plain = _OTHER.sub(lambda found: found[1] or found[2], _LINKS.sub("", meaning))
        entries.append([re.sub(r"[^a-z0-9]+", "-", word.lower()), word, plain])
    return entries


def module(text: str) -> str:
    """Write the module."""
    rows = "".join(f"  {json.dumps(entry, ensure_ascii=False)},\n" for entry in words(text))
    return (
        "/** The words of the glossary: anchor, word, meaning. Made by docs/glossary_words.py. */\n"
        f"export const WORDS = [\n{rows}];\n"
    )


if __name__ == "__main__":
    sys.stdout.write(module(GLOSSARY.read_text(encoding="utf-8")))
