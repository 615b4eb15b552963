"""Labels of units from text and JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from circuit_atlas.jobs.tasks.labels_file import read_labels
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.header import LayerIndex, UnitInfo
from circuit_atlas.storage_schema.kernels import KernelIndex

LAYER = LayerIndex(
    "fc",
    3,
    1,
    1,
    KernelIndex(()),
    (*(UnitInfo(n, str(n), None, ()) for n in range(3)), UnitInfo(3, "up", (1, 0, 0), ())),
)


def read(folder: Path, text: str, name: str) -> dict[int, str]:
    (folder / name).write_text(text, encoding="utf-8")
    return read_labels(folder / name, LAYER)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("\ufefftench\n\ntabby,  tabby cat\n\n", "a.txt"),
        (json.dumps(["tench", "", "tabby, tabby cat"]), "a.json"),
        (json.dumps({"2": "tabby, tabby cat", "0": ["n01440764", "tench"]}), "a.json"),
    ],
)
def test_forms(tmp_path: Path, text: str, name: str) -> None:
    assert read(tmp_path, text, name) == {0: "tench", 2: "tabby, tabby cat"}


def test_a_direction_has_a_label_by_its_number(tmp_path: Path) -> None:
    assert read(tmp_path, json.dumps({"3": "upward"}), "a.json") == {3: "upward"}


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("tench\ntabby\n", "a.txt", "are 2, and it has 3 channels"),
        ('["a", "b", "c", "d"]', "a.json", "are 4, and it has 3 channels"),
        ('{"4": "a"}', "a.json", "'4' is no unit of it, which are 0 to 3"),
        ('{"tench": 0}', "a.json", "'tench' is no unit of it"),
        ('{"0": 7}', "a.json", "that of 0 is 7, and should be a text"),
        ("7", "a.json", "are no list and no object"),
        ("{", "a.json", "cannot be read.*give a text file"),
    ],
)
def test_what_is_no_file_of_labels(tmp_path: Path, text: str, name: str, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        read(tmp_path, text, name)
    with pytest.raises(SpecError, match="cannot be read"):
        read_labels(tmp_path / "none.txt", LAYER)
