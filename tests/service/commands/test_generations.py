"""`compact` and `delete-old-generations`: what they print, and how they fail."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from circuit_atlas.service import Atlas
from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.sealed import generations
from circuit_atlas.storage_schema.verify import verify


@pytest.fixture
def call(capsys):
    """Run a command line; its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def folder(write, tmp_path) -> Path:
    write(tmp_path / "atlas")
    return tmp_path / "atlas"


def names(folder: Path, layer: str) -> list[str]:
    return [generation.name for generation in generations(open_store(folder), layer)]


def whole_summary(folder: Path, name: str) -> pa.Table:
    """What a layer's summary says once it is sealed, as told by what its units stored."""
    layer = Atlas.open(folder).layer(name)
    return layer.summary(polysemanticity=layer.polysemanticity())


def test_compact_says_what_it_wrote(call, folder):
    before = {name: whole_summary(folder, name) for name in ("conv2", "conv3")}
    code, out, err = call("compact", folder)
    ((conv2,), (conv3,)) = (names(folder, layer) for layer in ("conv2", "conv3"))
    lines = out.splitlines()
    assert (code, err) == (0, "")
    assert lines[0].startswith(f"conv2: 3 units in generation {conv2}, ")
    assert lines[1].startswith(f"conv3: 4 units in generation {conv3}, ")
    assert call("compact", folder) == (0, "conv2: nothing to do\nconv3: nothing to do\n", "")
    for name, summary in before.items():
        assert Atlas.open(folder).layer(name).summary() == summary
    assert verify(open_store(folder)) == ()


def test_compact_as_json(call, folder):
    code, out, _ = call("compact", folder, "--json")
    told = json.loads(out)["layers"]
    assert code == 0
    assert [(one["layer"], one["units"]) for one in told] == [("conv2", 3), ("conv3", 4)]
    assert [[one["generation"]] for one in told] == [names(folder, n) for n in ("conv2", "conv3")]
    assert json.loads(call("compact", folder, "--json")[1])["layers"][0]["generation"] is None


def test_old_generations_are_kept_while_they_are_young(call, folder):
    for _ in range(2):
        call("compact", folder, "--anew")
    old, new = names(folder, "conv3")
    said = call("delete-old-generations", folder)
    assert said == (0, f"{folder}: 0 deleted, 0 B; 2 younger than 24 hours stay\n", "")
    assert names(folder, "conv3") == [old, new]
    code, out, err = call("delete-old-generations", folder, "--force")
    assert (code, err, len(out.splitlines())) == (0, "", 3)
    assert f"conv3: generation {old} is deleted, " in out
    assert out.splitlines()[-1].startswith(f"{folder}: 2 deleted, ")
    assert names(folder, "conv3") == [new]
    assert verify(open_store(folder)) == ()
    told = json.loads(call("delete-old-generations", folder, "--older-than", "0", "--json")[1])
    assert told == {"deleted": [], "kept": []}


def test_what_was_left_of_a_generation_is_named_so(call, folder):
    call("compact", folder)
    (name,) = names(folder, "conv3")
    open_store(folder).delete([layer_paths.manifest("conv3", name)])
    out = call("delete-old-generations", folder, "--force")[1]
    assert f"conv3: what was left of generation {name} is deleted, " in out
    assert names(folder, "conv3") == []


@pytest.mark.parametrize("command", ["compact", "delete-old-generations"])
def test_a_place_without_an_atlas_is_one_line(call, tmp_path, command):
    for location, says in ((tmp_path / "none", "does not exist"), (tmp_path, "holds no atlas")):
        code, out, err = call(command, location)
        assert (code, out, err.count("\n")) == (exits.STORE, "", 1)
        assert says in err


def test_a_store_that_cannot_be_written_is_one_line(call, folder, address, monkeypatch):
    code, _, err = call("compact", address)
    assert (code, err.count("\n")) == (exits.STORE, 1)
    assert "a served atlas is read-only; give its folder" in err
    call("compact", folder)
    call("compact", folder, "--anew")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("obstore.put", refuse)
    monkeypatch.setattr("obstore.delete", refuse)
    for arguments in (("compact", folder, "--anew"), ("delete-old-generations", folder, "--force")):
        code, out, err = call(*arguments)
        assert (code, out, err.count("\n")) == (exits.STORE, "", 1)
        assert "it is read-only: choose a store that can be written" in err


def test_ctrl_c_is_one_line_and_the_same_command_goes_on(call, folder, monkeypatch):
    before = Atlas.open(folder).layer("conv3").summary()
    whole = whole_summary(folder, "conv3")
    put, left = Objects.create, [3]

    def interrupted(self: Objects, path: str, data: bytes) -> bool:
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return put(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "create", interrupted)
        patch.setattr("signal.signal", lambda *_: None)
        code, _, err = call("compact", folder)
    assert code == exits.INTERRUPTED
    assert err == (
        "\ncircuit-atlas: stopped: what is stored stays, and the same command goes on where it "
        "stopped\n"
    )
    assert Atlas.open(folder).layer("conv3").summary() == before
    assert call("compact", folder)[0] == 0
    assert Atlas.open(folder).layer("conv3").summary() == whole
