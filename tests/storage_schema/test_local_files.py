"""An atlas in a folder is read as far as it consists of plain files of that folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from circuit_atlas.storage_schema.errors import CorruptError, StoreError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store

READS: dict[str, Callable[[Objects, str], object]] = {
    "get": Objects.get,
    "get_ranges": lambda objects, path: objects.get_ranges(path, [(0, 1)]),
    "file": Objects.file,
    "exists": Objects.exists,
    "put": lambda objects, path: objects.put(path, b"x"),
    "create": lambda objects, path: objects.create(path, b"x"),
    "delete": lambda objects, path: objects.delete([path]),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store, with a file outside of it."""
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "store" / "inside").mkdir(parents=True)
    (tmp_path / "store" / "inside" / "a").write_bytes(b"a")
    return tmp_path / "store"


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _link(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


SPECIAL: dict[str, tuple[Callable[[Path], None], str]] = {
    "a link to a file outside": (_link("../secret"), "is a link that leads out of the atlas"),
    "a link to a device": (_link("/dev/zero"), "is a link that leads out of the atlas"),
    "a link to a link outside": (_link("inside/../../secret"), "leads out of the atlas"),
    "a link in a circle": (_link("x"), "is a link that leads in a circle"),
    "a pipe": (_pipe, "is a pipe"),
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("kind", SPECIAL)
def test_nothing_is_read_or_written_but_plain_files(folder, kind, read):
    make, said = SPECIAL[kind]
    make(folder / "x")
    objects = open_store(folder)
    with pytest.raises(CorruptError, match=said):
        READS[read](objects, "x")
    assert (folder.parent / "secret").read_bytes() == b"secret"
    assert not objects.is_own("x")


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "inside/../../secret",
        "/etc/passwd",
        "a\0b",
        "a//b",
        "a/",
        "./a",
        "é",
        "a" * 1025,
    ],
)
def test_a_path_leads_into_the_folder(folder, path):
    with pytest.raises(CorruptError, match="is no path of a file in it"):
        open_store(folder).get(path)


def test_links_within_the_folder_are_followed_and_the_folder_may_be_one(folder, tmp_path):
    (folder / "x").symlink_to("inside/a")
    (folder / "there").symlink_to("inside")
    (folder / "inside" / "b").symlink_to("a")
    (tmp_path / "link").symlink_to(folder)
    objects = open_store(tmp_path / "link")
    assert objects.get("x") == objects.get("there/a") == b"a"
    assert [entry.path for entry in objects.list("inside")] == ["inside/a", "inside/b"]
    with pytest.raises(CorruptError, match=r"there is a link to a folder, and nothing is read"):
        objects.list()


@pytest.mark.parametrize("target", ["../..", "/", "/proc"])
def test_a_listing_does_not_leave_the_folder(folder, target):
    (folder / "inside" / "x").symlink_to(target)
    objects = open_store(folder)
    for listing in (objects.list, lambda: objects.below(most=1), lambda: objects.list("inside")):
        with pytest.raises(CorruptError, match=r"store/inside/x is a link that leads out"):
            listing()
    with pytest.raises(CorruptError, match="leads out"):
        objects.names("inside/x")
    assert objects.names("inside") == ("a", "x")
    assert objects.get("inside/a") == b"a"


def test_a_large_file_of_holes_is_not_read(folder):
    with (folder / "x").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(CorruptError, match=r"1,099,511,627,776 bytes, and is of holes"):
        open_store(folder).get("x")
    with (folder / "y").open("wb") as file:
        file.truncate(2**16)
    assert open_store(folder).get("y") == bytes(2**16)


def test_what_is_not_there_is_missing(folder):
    (folder / "x").symlink_to("nothing")
    for path in ("x", "nothing", "inside/nothing"):
        with pytest.raises(FileNotFoundError, match=f"{path} is missing"):
            open_store(folder).get(path)
    with pytest.raises(StoreError, match="nnn"):
        open_store(folder).get("n" * 300)
