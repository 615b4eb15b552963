"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click

from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.build_commands import ExecutorKind

Command = Callable[..., Any]

SPEC = click.argument("spec", type=click.Path(path_type=Path))
ATLAS = click.argument("atlas")
LAYER = click.argument("layer")
UNIT = click.argument("unit")
CRITERION = click.option(
    "--criterion", metavar="NAME", help="Which score chose them; the first where not given."
)


def whole_numbers(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Read a list of numbers: 1,2,3."""
    del context, parameter
    try:
        return None if value is None else tuple(int(part) for part in value.split(","))
    except ValueError:
        raise click.BadParameter(f"{value!r} is no list of whole numbers such as 1,2,3") from None


IMAGES = click.option(
    "--images",
    metavar="IDS",
    callback=whole_numbers,
    help="The circuit of some of the unit's top images, such as 1,2,3.",
)
GROUP = click.option(
    "--group",
    type=int,
    metavar="NUMBER",
    help="The circuit of one of its stored sub-feature groups, from 0.",
)
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
STORE = click.option(
    "--store", metavar="LOCATION", help="Folder or URL of the atlas, instead of the spec's."
)
UNITS = click.option(
    "--units",
    metavar="UNITS",
    help="Channels of every layer, instead of the spec's: all, 0:64:2 or 0,8,16.",
)
MAX_UNITS = click.option(
    "--max-units",
    type=click.IntRange(min=1),
    metavar="N",
    help="Build N units at most this time, the first that are missing; the same command goes on.",
)
ADDRESS = click.option(
    "--address",
    default="local",
    show_default=True,
    help="Which Ray: local starts one here; auto is the one this process runs in; or HOST:PORT, on "
    "a machine of the cluster.",
)
EXECUTOR = click.option(
    "--executor",
    type=click.Choice(["ray", "local"]),
    default="ray",
    show_default=True,
    help="Run tasks on Ray workers, or one after the other in this process.",
)
PLAIN = click.option(
    "--plain-progress", "plain", is_flag=True, help="Progress as lines, not as a bar."
)
LOG_JSON = click.option(
    "--log-json",
    is_flag=True,
    help="In place of progress, a structured log on stderr: each event as one JSON line.",
)


def debug(command: Command) -> Command:
    """Add `--debug`, which every command has."""
    return click.option(
        "--debug",
        is_flag=True,
        expose_value=False,
        callback=exits.show_traceback,
        help="With an error, show where in the code it arose.",
    )(command)


@dataclass(frozen=True)
class Work:
    """What a command is given that has tasks of a spec run: of what, where, and how."""

    spec: Path
    store: str | None
    units: str | None
    executor: ExecutorKind
    address: str
    plain: bool
    log_json: bool
    as_json: bool
    max_units: int | None = None


def work(command: Callable[[Work], None]) -> Command:
    """Add the arguments and options that make up `Work`."""

    @wraps(command)
    def with_work(**given: Any) -> None:
        command(Work(**given))

    decorated: Command = with_work
    for option in (debug, JSON, LOG_JSON, PLAIN, UNITS, STORE, EXECUTOR, ADDRESS, SPEC):
        decorated = option(decorated)
    return decorated


def older_than(what: str, *, default: float) -> Callable[[Command], Command]:
    """Gives the option that says from which age in hours something is deleted; `what` it is."""
    return click.option(
        "--older-than",
        "hours",
        metavar="HOURS",
        type=click.FloatRange(min=0),
        default=default,
        show_default=True,
        help=f"Delete {what} of this age or above.",
    )


def keep(default: float) -> Callable[[Command], Command]:
    """Gives the option that says how large a circuit is."""
    return click.option(
        "--keep",
        type=float,
        default=default,
        show_default=True,
        help="Kept fraction of the kernels that can reach the unit.",
    )
