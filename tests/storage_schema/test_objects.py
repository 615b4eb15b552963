"""The object store, over local disk and memory alike."""

from __future__ import annotations

import pickle
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from obstore.store import MemoryStore

from circuit_atlas.storage_schema.errors import NotAnAtlasError, WriteError
from circuit_atlas.storage_schema.objects import Below, Entry, Objects
from circuit_atlas.storage_schema.opening import find_store, open_store


@pytest.fixture(params=["disk", "memory"])
def empty(request, tmp_path):
    if request.param == "disk":
        return open_store(tmp_path / "new" / "store", create=True)
    return Objects(MemoryStore(), location="memory://")


def test_put_get_list(empty):
    assert empty.put_if_absent("a/b.json", b"one")
    assert not empty.put_if_absent("a/b.json", b"two")
    assert not empty.create("a/b.json", b"two")
    assert empty.create("a/c.json", b"")
    empty.delete(["a/c.json"])
    assert empty.get("a/b.json") == b"one"
    empty.put("a/b.json", b"three")
    empty.put("ab.json", b"")
    assert empty.get_many(["ab.json", "a/b.json"]) == [b"", b"three"]
    assert empty.list() == (Entry("a/b.json", 5), Entry("ab.json", 0))
    assert empty.list("a") == (Entry("a/b.json", 5),)
    assert empty.list("none") == ()
    assert empty.names() == ("a", "ab.json")
    assert empty.names("a") == ("b.json",)
    assert (empty.exists("ab.json"), empty.exists("a"), empty.exists("b")) == (True, False, False)


def test_below_a_folder_is_all_or_the_folders_in_it(empty):
    for path in ("a/x/1", "a/x/2", "a/y", "b", "a.b"):
        empty.put(path, b"")
    assert empty.below(most=5) == Below(empty.list())
    assert empty.below(most=4) == Below((Entry("a.b", 0), Entry("b", 0)), ("a",))
    assert empty.below("a", most=2) == Below((Entry("a/y", 0),), ("a/x",))
    assert empty.below("a/x", most=1) == Below((Entry("a/x/1", 0), Entry("a/x/2", 0)))
    assert empty.below("none", most=0) == Below(())


def test_a_home_that_there_is_not_is_a_folder_that_is_not_there():
    with pytest.raises(NotAnAtlasError, match="nobody-of-that-name/x does not exist"):
        open_store("~nobody-of-that-name/x")


def test_a_missing_object_says_where(empty):
    with pytest.raises(FileNotFoundError, match=re.escape(f"{empty.at('x/y')} is missing")):
        empty.get("x/y")


def test_of_many_that_put_at_once_one_wins_and_stays(empty):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: empty.put_if_absent("key", b"%d" % n), range(40)))
    assert won.count(True) == 1
    assert empty.get("key") == b"%d" % won.index(True)


def test_a_store_survives_pickling(tmp_path):
    store = open_store(tmp_path / "a", create=True)
    store.put("x", b"1")
    assert pickle.loads(pickle.dumps(store)).get("x") == b"1"


def test_a_file_url_is_a_folder(tmp_path):
    open_store(f"file://{tmp_path}/a", create=True).put("x", b"1")
    assert (tmp_path / "a" / "x").read_bytes() == b"1"


def test_places_that_cannot_be_opened(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotAnAtlasError, match="none does not exist: give the folder"):
        open_store(tmp_path / "none")
    assert not (tmp_path / "none").exists()
    with pytest.raises(NotAnAtlasError, match="file is a file"):
        open_store(tmp_path / "file", create=True)
    with pytest.raises(WriteError, match="a part of the path is a file") as caught:
        open_store(tmp_path / "file" / "below", create=True)
    assert "\n" not in str(caught.value)
    with pytest.raises(
        NotAnAtlasError, match=r"cannot open .*: File name too long; give the folder"
    ):
        open_store(tmp_path / ("n" * 300))
    with pytest.raises(WriteError, match="the name is too long for this file system"):
        open_store(tmp_path / ("n" * 300), create=True)
    with pytest.raises(NotAnAtlasError, match=r"cannot open nothing://x: .*recognise") as unknown:
        open_store("nothing://x")
    assert "\n" not in str(unknown.value)


def test_the_store_of_a_build_to_come_is_found_and_not_made(tmp_path):
    (tmp_path / "file").write_text("x")
    assert find_store(tmp_path / "new" / "store") is None
    assert not (tmp_path / "new").exists()
    assert find_store(tmp_path).names() == ("file",)
    for location, error in (
        (tmp_path / "file", NotAnAtlasError),
        (tmp_path / "file/x", WriteError),
    ):
        with pytest.raises(error, match="is a file"):
            find_store(location)
