"""A folder read by plain means: as the store's client reads it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.store import LocalStore, MemoryStore, ObjectStore

from circuit_atlas.storage_schema import client
from circuit_atlas.storage_schema.errors import StoreError


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    """A folder with objects, one of them half written, and folders without any."""
    for path in ("a.json", "layers/conv/b.bin", "layers/conv/c.bin", "layers/d", "half#1"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(path.encode() * 3)
    (tmp_path / "empty").mkdir()
    return LocalStore(tmp_path)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Makes of this process one that was forked off another that read a store."""
    return lambda: monkeypatch.setattr(client, "_process", [os.getpid() + 1])


def listed(entries: Any) -> list[tuple[object, ...]]:
    keys = ("path", "size", "e_tag", "last_modified")
    return sorted(tuple(entry[key] for key in keys) for entry in entries)


def answers(store: ObjectStore) -> dict[str, object]:
    """What is read and listed of the folder."""
    found: dict[str, object] = {
        "get": client.get(store, "a.json")[0],
        "ranges": client.get_ranges(store, "layers/d", starts=[1, 4], lengths=[2, 5]),
    }
    for path in ("a.json", "layers", "nothing"):
        try:
            client.head(store, path)
            found[f"head of {path}"] = True
        except FileNotFoundError:
            found[f"head of {path}"] = False
    for prefix in (None, "layers", "layers/conv", "nothing"):
        every = [entry for some in client.list_all(store, prefix) for entry in some]
        inside = client.list_folder(store, prefix)
        found[f"below {prefix}"] = listed(every)
        found[f"in {prefix}"] = listed(inside["objects"]), set(inside["common_prefixes"])
    return found


def test_plain_reads_answer_as_the_client_does(store, forked):
    right = answers(store)
    forked()
    assert answers(store) == right


def test_what_is_not_there_is_missing(store, forked):
    forked()
    with pytest.raises(FileNotFoundError):
        client.get(store, "layers/e")
    with pytest.raises(FileNotFoundError):
        client.get_ranges(store, "layers/e", starts=[0], lengths=[1])


@pytest.mark.parametrize(
    "ask",
    [
        lambda store: client.get(store, "a"),
        lambda store: list(client.list_all(store, None)),
        lambda store: client.put(store, "a", b""),
        lambda store: client.delete(store, "a"),
    ],
)
def test_no_other_store_is_waited_for(forked, ask):
    forked()
    with pytest.raises(StoreError, match="forked off one that uses the store's client"):
        ask(MemoryStore())


def test_nothing_is_written(store, forked):
    forked()
    for write in (
        lambda: client.put(store, "new", b"data"),
        lambda: client.delete(store, "a.json"),
    ):
        with pytest.raises(StoreError, match="nothing; start processes by spawn"):
            write()
    assert client.get(store, "a.json")
    with pytest.raises(FileNotFoundError):
        client.head(store, "new")
