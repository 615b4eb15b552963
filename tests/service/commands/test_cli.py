"""The command line: what it prints, what it ends with, and how it fails."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import click
import pytest

from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import cli, main
from circuit_atlas.storage_schema import layer_paths
from circuit_atlas.storage_schema.errors import (
    InfrastructureError,
    SpecError,
    UnitError,
    WriteError,
)
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.records import FailureRecord
from circuit_atlas.storage_schema.writer import Writer
from tests.patience import START_S

COMMAND = [sys.executable, "-m", "circuit_atlas.service.commands.cli"]


@pytest.fixture
def call(capsys):
    """Run a command line; its exit code, stdout and stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        code = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_show_an_atlas(call, location):
    code, out, _ = call("show", location)
    assert code == 0
    assert "toy.models:small" in out
    assert "4 scoring, 1 held out, 1 left out" in out
    assert "fractions   1, 0.5, 0.1" in out


def test_show_a_layer_lists_the_most_faithful_unit_first(call, location):
    code, out, _ = call("show", location, "conv3")
    assert code == 0
    rows = [line.split()[:6] for line in out.splitlines()[-6:]]
    assert rows == [
        ["unit", "state", "kernels", "kept", "act", "r"],
        ["0", "done", "44", "4", "2", "0.900"],
        ["1", "done", "44", "4", "2", "0.400"],
        ["2", "done", "44", "4", "2", "silent"],
        ["3", "dead", "52"],
        ["4", "failed", "non_finite:", "NaN", "in", "its"],
    ]
    assert "median 0.400" in out


def test_show_a_unit(call, location):
    code, out, _ = call("show", location, "conv2", "edge", "--keep", "0.4", "--criterion", "force")
    assert code == 0
    assert "dog <small>" in out
    assert "faithfulness of the force circuits" in out
    assert "Circuit conv2/edge force: 20 of 40 kernels" in out
    ladder = out.partition("faithfulness of the force circuits")[2].splitlines()
    assert [line.split()[:3] for line in ladder[1:4]] == [
        ["keep", "kernels", "act"],
        ["1", "40", "40"],
        ["0.5", "20", "19"],
    ]
    groups = out.partition("sub-features by actgrad")[2].splitlines()
    assert [line.split() for line in groups[1:4]] == [
        ["group", "images", "first", "preserved", "leaked"],
        ["0", "2", "dog", "<small>,", "dog", "0.900", "0.200"],
        ["1", "1", "cat", "0.900", "0.200"],
    ]
    code, out, _ = call("show", location, "conv3", "3")
    assert code == 0
    assert "largest responses" in out
    assert "it has no circuit" in out


def test_a_unit_as_json_has_its_groups(call, location):
    code, out, _ = call("show", location, "conv3", "0", "--json")
    assert code == 0
    groups = json.loads(out)["groups"]
    assert groups["criterion"] == "actgrad"
    assert [(row["image"], row["group"]) for row in groups["images"]] == [(2, 0), (0, 1), (3, 0)]
    assert "groups" not in json.loads(call("show", location, "conv3", "3", "--json")[1])


def test_sql_prints_a_table_or_json(call, location):
    pytest.importorskip("duckdb")
    query = "SELECT layer, count(*) AS units, max(DATE '2026-01-02') AS day FROM units GROUP BY ALL"
    code, out, _ = call("sql", location, f"{query} ORDER BY layer")
    assert code == 0
    assert [line.split() for line in out.splitlines()] == [
        ["layer", "units", "day"],
        ["conv2", "4", "2026-01-02"],
        ["conv3", "5", "2026-01-02"],
    ]
    code, out, _ = call("sql", location, f"{query} ORDER BY layer", "--json")
    assert json.loads(out)[1] == {"layer": "conv3", "units": 5, "day": "2026-01-02"}
    code, out, err = call("sql", location, "SELECT * FROM unitz")
    assert (code, out) == (2, "")
    assert err == "circuit-atlas: error: there is no table 'unitz': did you mean 'units'?\n"


def test_a_dead_unit_without_top_images_has_no_table_of_them(call, write, tmp_path):
    write(tmp_path / "atlas", ranked=False)
    code, out, _ = call("show", tmp_path / "atlas", "conv3", "3")
    assert code == 0
    assert "largest responses" not in out
    assert "it has no circuit" in out


@pytest.mark.parametrize("where", [(), ("conv3",), ("conv3", "0"), ("conv3", "3")])
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_show_checks_its_options_in_every_form(call, location, where, form):
    for option, message in (
        (["--keep", "nan"], "outside (0, 1]"),
        (["--criterion", "x"], "no crit"),
    ):
        code, out, err = call("show", location, *where, *option, *form)
        assert (code, out) == (exits.BAD_INPUT, "")
        assert message in err


@pytest.mark.parametrize(
    ("arguments", "keys"),
    [
        ((), {"location", "header", "layers"}),
        (("conv3",), {"layer", "units", "faithfulness"}),
        (("conv3", "0"), {"unit", "images", "faithfulness", "circuit"}),
        (("conv3", "3"), {"unit", "images", "faithfulness"}),
    ],
)
def test_show_as_json(call, location, arguments, keys):
    code, out, _ = call("show", location, *arguments, "--json")
    assert code == 0
    assert keys <= json.loads(out).keys()
    assert ("circuit" in json.loads(out)) == ("circuit" in keys)


def test_status_ends_with_1_where_a_unit_failed(call, location):
    code, out, _ = call("status", location)
    assert code == exits.UNIT_FAILED
    assert "failed: conv3 unit 4: non_finite: NaN in its response to image 1" in out
    code, out, _ = call("status", location, "--json")
    assert code == exits.UNIT_FAILED
    assert json.loads(out)["failures"][0]["kind"] == "non_finite"


def test_status_names_directions(call, write, tmp_path):
    write(tmp_path / "atlas")
    reader = Reader(tmp_path / "atlas")
    writer = Writer(reader.objects, reader.header, reader.layer("conv2"))
    Path(reader.objects.location, layer_paths.commit("conv2", 4)).unlink()
    writer.fail(FailureRecord(UnitKey(reader.header.model, "conv2", 4), "kind", "why", ""))
    assert "failed: conv2 unit edge: kind: why" in call("status", tmp_path / "atlas")[1]
    failures = json.loads(call("status", tmp_path / "atlas", "--json")[1])["failures"]
    assert [failure["name"] for failure in failures] == ["edge", "4"]


def test_verify_finds_what_was_altered(call, write, tmp_path):
    write(tmp_path / "atlas")
    assert call("verify", tmp_path / "atlas")[:2] == (0, f"{tmp_path / 'atlas'}: whole\n")
    chunk = max((tmp_path / "atlas").rglob("c.*"), key=lambda path: path.stat().st_size)
    chunk.write_bytes(b"\0" * chunk.stat().st_size)
    code, out, _ = call("verify", tmp_path / "atlas")
    assert code == exits.STORE
    assert "altered" in out
    assert chunk.name in out
    code, out, _ = call("verify", tmp_path / "atlas", "--json")
    assert code == exits.STORE
    assert json.loads(out)["findings"][0]["kind"] == "altered"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["show", "nowhere"], 3, "nowhere does not exist"),
        (["show", "ATLAS", "conv4"], 2, "did you mean"),
        (["show", "ATLAS", "conv3", "9"], 2, "units go from 0 to 4"),
        (["show", "ATLAS", "conv3", "-1"], 2, "units count from 0, so none is negative"),
        (["show", "ATLAS", "conv3", "4"], 2, "failed (non_finite"),
        (["show", "ATLAS", "conv3", "0", "--keep", "2"], 2, "outside (0, 1]"),
        (["show", "ATLAS", "conv3", "0", "--criterion", "snp"], 2, "no criterion 'snp'"),
        (["shw", "ATLAS"], 2, "No such command 'shw'"),
        (["show"], 2, "Missing argument 'ATLAS'"),
        (["show", "ATLAS", "--keep", "x"], 2, "'x' is not a valid float"),
        (["build", "no-such.toml"], 2, "no spec at 'no-such.toml'"),
        (["plan", "no-such.toml"], 2, "no spec at 'no-such.toml'"),
        (["plan", "SPEC", "--units", "0,-3"], 2, "units '0,-3' cannot be read: give all, a range"),
        (["demo", "--store="], 2, "store '' is empty: give a folder, or a URL"),
        (["build", "SPEC", "--store", " "], 2, "store ' ' is empty"),
        (["plan", "SPEC", "--store", "SPEC"], 3, "spec.toml is a file: give the folder"),
        (["plan", "SPEC", "--store", "SPEC/below"], 3, "a part of the path is a file"),
        (["plan", "SPEC", "--store", "FOLDER"], 3, "holds other things (spec.toml) and no atlas"),
        (["demo", "--units", "129"], 2, "give all, or a number from 1 to 128"),
    ],
)
def test_an_error_is_one_line_without_a_traceback(
    call, location, tmp_path, arguments, code, message
):
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[model]\nreference = "demo:squeezenet1_1"\n[images]\nsource = "demo:photos"\n'
        '[[layers]]\nname = "features.3.squeeze"\n'
    )
    names = {"ATLAS": location, "SPEC": spec, "FOLDER": tmp_path, "SPEC/below": spec / "below"}
    ended, out, err = call(*(names.get(argument, argument) for argument in arguments))
    assert (ended, out) == (code, "")
    assert err.startswith("circuit-atlas: error: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_unknown_key_names_the_nearest(call, tmp_path):
    spec = tmp_path / "spec.toml"
    spec.write_text(
        '[model]\nreference = "demo:squeezenet1_1"\n[images]\nsource = "demo:photos"\n'
        '[[layers]]\nname = "features.3.squeeze"\n[circuits]\nsead = 1\n'
    )
    code, _, err = call("build", spec)
    assert code == exits.BAD_INPUT
    assert "sead" in err
    assert "'seed'" in err


@pytest.fixture(autouse=True)
def ctrl_c_heard():
    """A command that Ctrl-C stopped leaves its process deaf to another."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def _of_interrupt() -> ImportError:
    error = ImportError("a module of compiled code")
    error.__cause__ = KeyboardInterrupt()
    return error


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (SpecError("bad key"), 2, "error: bad key\n"),
        (WriteError("full"), 3, "error: full\n"),
        (InfrastructureError("lost"), 4, "error: lost\n"),
        (UnitError("a unit"), 1, "error: a unit\n"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 2, "circuit-atlas[build]"),
        (ModuleNotFoundError("", name="ray.job_submission"), 2, "circuit-atlas[build]"),
        (ModuleNotFoundError("", name="aiohttp"), 2, "circuit-atlas[build]"),
        (ModuleNotFoundError("", name="foolbox"), 2, "circuit-atlas[demo]"),
        (ModuleNotFoundError("No module named 'mine'", name="mine"), 70, "No module named 'mine'"),
        (ZeroDivisionError("two\nlines"), 70, "ZeroDivisionError: two lines"),
        (KeyboardInterrupt(), 130, "circuit-atlas: stopped\n"),
        (_of_interrupt(), 130, "circuit-atlas: stopped\n"),
    ],
)
def test_exit_codes(capsys, error, code, text):
    @click.command()
    def fail() -> None:
        raise error

    assert exits.run(fail, [], name="fail") == code
    err = capsys.readouterr().err
    assert text in err
    assert "Traceback" not in err


def test_ctrl_c_in_a_build_says_that_it_can_go_on(capsys):
    @click.command()
    def fail() -> None:
        exits.resumable()
        raise KeyboardInterrupt

    assert exits.run(fail, [], name="fail") == exits.INTERRUPTED
    os.kill(os.getpid(), signal.SIGINT)  # once more, while the process ends
    assert "the same command goes on where it stopped" in capsys.readouterr().err


def test_debug_shows_the_traceback(call, tmp_path):
    code, _, err = call("show", tmp_path / "none", "--debug")
    assert code == exits.STORE
    assert "Traceback" in err
    assert err.splitlines()[-1].startswith("circuit-atlas: error: ")


def test_a_reader_that_leaves_is_no_error(location):
    show = [*COMMAND, "show", str(location), "conv3", "--json"]
    read, written = os.pipe()
    os.close(read)
    done = subprocess.run(show, stdout=written, stderr=subprocess.PIPE, text=True, timeout=START_S)
    os.close(written)
    assert done.returncode == exits.BROKEN_PIPE
    assert done.stderr == ""


@pytest.mark.parametrize("name", [None, *cli.commands])
def test_help_stands_alone(call, name):
    code, out, _ = call(*([] if name is None else [name]), "--help")
    assert code == 0
    assert "Usage: " in out
    command = cli if name is None else cli.commands[name]
    assert command.help
    for parameter in command.params:
        assert isinstance(parameter, click.Argument) or parameter.help


def test_every_command_that_prints_has_json():
    for command in cli.commands.values():
        assert "--json" in {option for p in command.params for option in p.opts}


def test_the_version(call):
    code, out, _ = call("--version")
    assert code == 0
    assert out.startswith("circuit-atlas, version ")


def test_the_module_runs_as_a_program(location):
    done = subprocess.run([*COMMAND, "verify", str(location)], capture_output=True, timeout=START_S)
    assert done.returncode == 0
