"""What braces and globs in a source stand for."""

from __future__ import annotations

from pathlib import Path

import pytest

from circuit_atlas.jobs.images import distinct
from circuit_atlas.jobs.images.named_files import expanded, named_files
from circuit_atlas.storage_schema.errors import ImageError


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("a.tar", ["a.tar"]),
        ("{8..11}", ["8", "9", "10", "11"]),
        ("{08..11}", ["08", "09", "10", "11"]),
        ("{0..10}", [str(n) for n in range(11)]),
        ("{00..100}", [f"{n:03d}" for n in range(101)]),
        ("{3..1}", ["3", "2", "1"]),
        ("{b,a}-{0..1}", ["b-0", "b-1", "a-0", "a-1"]),
        ("{x}{}", ["{x}{}"]),
    ],
)
def test_braces(pattern: str, names: list[str]) -> None:
    assert expanded(pattern) == names


@pytest.mark.parametrize("pattern", ["{0..999999999999}", "{0..999}{0..999}"])
def test_too_many_files_are_refused(pattern: str) -> None:
    with pytest.raises(ImageError, match="names more than 100000 files"):
        expanded(pattern)


def test_a_file_whose_name_is_a_pattern_is_that_file(tmp_path: Path) -> None:
    for name in ("a{0..1}[x]*.tar", "a0.tar", "b.tar"):
        (tmp_path / name).write_bytes(b"")
    named = [file.name for file in named_files(f"{tmp_path}/a{{0..1}}[x]*.tar")]
    assert named == ["a{0..1}[x]*.tar"]
    assert [file.name for file in named_files(f"{tmp_path}/?*.tar")] == [
        "a0.tar",
        "a{0..1}[x]*.tar",
        "b.tar",
    ]
    assert named_files(str(tmp_path)) == []
    assert named_files(str(tmp_path / "none")) == []


def test_many_of_one_name_are_told_apart_at_once() -> None:
    names = distinct.distinct(["image.png"] * 20_000)
    assert (names[1], names[-1], len(set(names))) == ("image.png#2", "image.png#20000", 20_000)
