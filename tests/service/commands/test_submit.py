"""The command that hands builds over, against a job server that is played."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from circuit_atlas.cluster import submit as cluster
from circuit_atlas.service.commands import submit as command
from circuit_atlas.service.commands.cli import main

ADDRESS = ("--address", "http://head:8265")
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    """Runs the command; its exit code, stdout and stderr. Jobs print one line and end with 7; one
    named "cut" is cut off."""

    def send(spec: Path, *, address: str, job: str | None, log_json: bool) -> str:
        assert (spec, address) == (Path("spec.toml"), ADDRESS[1])
        return job or ("logging" if log_json else "drawn")

    def follow(
        job: str, *, address: str, on_log: Callable[[str], None], ask_to_stop: Callable[[], bool]
    ) -> int:
        assert address == ADDRESS[1]
        on_log(f"{job} runs\n")
        if job == "cut":
            on_log("to be stopped\n" if ask_to_stop() else "goes on\n")
            raise KeyboardInterrupt
        return 7

    monkeypatch.setattr(cluster, "send", send)
    monkeypatch.setattr(cluster, "follow", follow)
    monkeypatch.setattr("signal.signal", lambda *_: None)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["submit", *arguments, *ADDRESS])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_it_says_the_id_and_ends_as_the_job_does(call: Call) -> None:
    assert call("spec.toml") == (7, "submitted as drawn\ndrawn runs\n", "")
    assert call("spec.toml", "--id", "mine") == (7, "submitted as mine\nmine runs\n", "")
    assert call("spec.toml", "--log-json")[1].startswith("submitted as logging\n")
    code, out, err = call("spec.toml", "--json")
    assert (code, json.loads(out)) == (7, {"job": "drawn", "exit_code": 7})
    assert err == "submitted as drawn\ndrawn runs\n"


def test_without_waiting_it_prints_the_id_alone(call: Call) -> None:
    assert call("spec.toml", "--no-wait") == (0, "drawn\n", "")
    code, out, _ = call("spec.toml", "--no-wait", "--id", "mine", "--json")
    assert (code, json.loads(out)) == (0, {"job": "mine"})


def test_a_job_is_followed_later(call: Call) -> None:
    assert call("--follow", "mine") == (7, "mine runs\n", "")
    code, out, _ = call("--follow", "mine", "--json")
    assert (code, json.loads(out)) == (7, {"job": "mine", "exit_code": 7})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "give either SPEC or --follow ID."),
        (("spec.toml", "--follow", "mine"), "give either SPEC or --follow ID."),
        (("--follow", "mine", "--no-wait"), "it takes no --id, --no-wait and --log-json."),
        (("--follow", "mine", "--log-json"), "it takes no --id, --no-wait and --log-json."),
        (("--follow", "mine", "--id", "other"), "it takes no --id, --no-wait and --log-json."),
    ],
)
def test_options_that_do_not_go_together(
    call: Call, arguments: tuple[str, ...], message: str
) -> None:
    code, out, err = call(*arguments)
    assert (code, out) == (2, "")
    assert message in err


@pytest.mark.parametrize(
    ("terminal", "answer", "told"),
    [
        (True, "y\n", "to be stopped"),
        (True, "\n", "goes on"),
        (True, "", "goes on"),  # as another Ctrl-C does
        (False, "y\n", "goes on"),
    ],
)
def test_ctrl_c_asks_on_a_terminal_whether_to_stop_the_job(
    call: Call, monkeypatch: pytest.MonkeyPatch, terminal: bool, answer: str, told: str
) -> None:
    lines = iter(answer.splitlines())

    def confirm(text: str, **_: object) -> bool:
        assert text == "\nStop job cut too? What is committed stays"
        if (line := next(lines, None)) is None:
            raise command.click.Abort
        return line == "y"

    monkeypatch.setattr(command.click, "confirm", confirm)
    for stream in (sys.stdin, sys.stderr):
        monkeypatch.setattr(stream, "isatty", lambda: terminal)
    code, out, err = call("--follow", "cut")
    assert (code, out) == (130, f"cut runs\n{told}\n")
    assert err.strip() == "circuit-atlas: stopped"
