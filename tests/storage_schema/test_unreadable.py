"""What a disk does not give is one finding: the rest is checked and repaired, and it stays."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from typing import Any

import pytest

from circuit_atlas.service.client.repair_text import done_text
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import client, layer_paths, layout, network
from circuit_atlas.storage_schema.compaction import compact
from circuit_atlas.storage_schema.errors import StoreError, UnreadableError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.repair import repair
from circuit_atlas.storage_schema.verify import verify
from circuit_atlas.storage_schema.writer import Writer

LAYER = "features.3"


@pytest.fixture
def built(objects, lay_out, header, layer, record, network_record):
    lay_out(objects, layers=[layer])
    network.store(objects, layer, network_record)
    writer = Writer(objects, header, layer)
    for unit in (0, 3, 4):
        writer.commit(record(unit))
    compact(objects, header, layer)
    return objects


@pytest.fixture
def lose(monkeypatch) -> Callable[..., None]:
    """Let the disk answer an error for some paths."""
    bad: dict[str, int] = {}
    for name in ("get", "get_ranges"):
        real = getattr(client, name)

        def read(store: Any, path: str, real: Any = real, **options: Any) -> Any:
            if path in bad:
                raise OSError(bad[path], "no")
            return real(store, path, **options)

        monkeypatch.setattr(client, name, read)

    def lost(*paths: str, number: int = errno.EIO) -> None:
        bad.clear()
        bad.update(dict.fromkeys(paths, number))

    return lost


def found(objects: Objects) -> list[tuple[str, str]]:
    return [(one.kind, one.path) for one in verify(objects) if one.harmful]


@pytest.mark.parametrize("number", [errno.EIO, errno.EACCES])
def test_every_object_alone(built, snapshot, lose, number):
    for path in snapshot(built):
        lose(path, number=number)
        assert found(built) == [("unreadable", path)]
        (finding,) = (one for one in verify(built) if one.harmful)
        assert built.at(path) in finding.message
        assert "\n" not in finding.message


def test_the_rest_is_repaired_and_it_stays(built, snapshot, lose):
    commits = Reader(built).commits(LAYER)
    lost, torn = (commits[unit].objects[0].path for unit in (3, 4))
    built.put(torn, b"torn")
    before = snapshot(built)
    lose(lost)
    done = repair(built)
    assert done.unreadable == (lost,)
    assert [(step.subject, step.number) for step in done.steps] == [("unit", 4)]
    assert any("cannot be read, and left as it is" in line for line in done_text(built, done))
    lose()
    assert built.get(lost) == before[lost]
    assert Reader(built).commits(LAYER).keys() == {0, 3}
    assert found(built) == []


def test_what_goes_with_a_torn_record_and_cannot_be_read_stays(built, snapshot, lose):
    """Its record is set aside; the object itself is neither replaced nor deleted."""
    record = layer_paths.network(LAYER)
    built.put(record, b"torn")
    before = snapshot(built)
    lose(layer_paths.weights(LAYER))
    repair(built)
    lose()
    assert built.get(layer_paths.weights(LAYER)) == before[layer_paths.weights(LAYER)]
    assert not built.exists(record)


@pytest.mark.parametrize("is_link", [True, False])
def test_so_it_is_with_a_link_or_a_pipe(built, tmp_path, is_link):
    """Nothing is read of it, nor is it moved."""
    commits = Reader(built).commits(LAYER)
    torn, other = commits[4].objects[0].path, tmp_path / "elsewhere"
    built.put(torn, b"torn")
    other.write_bytes(b"{}")
    lost = sorted([commits[3].objects[0].path, layer_paths.network(LAYER)])
    for path in lost:
        file = built.file(path)
        file.unlink()
        if is_link:
            file.symlink_to(other)
        else:
            os.mkfifo(file)
    done = repair(built)
    assert sorted(done.unreadable) == lost
    assert [(step.subject, step.number) for step in done.steps] == [("unit", 4)]
    assert sorted(found(built)) == [("unreadable", path) for path in lost]
    assert not any(map(built.is_own, lost))
    assert other.read_bytes() == b"{}"


def test_without_a_header_nothing_is_done(built, snapshot, lose):
    before = snapshot(built)
    lose(layout.HEADER)
    with pytest.raises(StoreError, match=r"atlas\.json"):
        repair(built)
    lose()
    assert snapshot(built) == before


def test_a_reader_is_told_which(built, lose):
    path = Reader(built).commits(LAYER)[3].objects[0].path
    lose(path)
    with pytest.raises(UnreadableError, match=r"cannot read .*[Ii]nput/output error"):
        built.get(path)


def test_commands_say_so_and_end_with_3(built, lose, capsys):
    path = Reader(built).commits(LAYER)[3].objects[0].path
    lose(path)
    assert main(["verify", built.location]) == 3
    assert main(["repair", built.location]) == 3
    said = capsys.readouterr().out
    assert said.count(f"unreadable: cannot read {built.at(path)}") == 2
    assert "1 cannot be read" in said
