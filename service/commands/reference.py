"""The README's table of commands, from the commands themselves.

`python -m circuit_atlas.service.commands.reference` prints it; a test holds the README against it.
"""

from __future__ import annotations

import inspect

import click

from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import cli


def commands_markdown(group: click.Group) -> str:
    """Every command with its usage, its help and its options, then the exit codes."""
    parts = []
    for name, command in group.commands.items():
        context = click.Context(command, info_name=f"circuit-atlas {name}")
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        parts += [f"### `{usage}`", "", inspect.cleandoc(command.help or ""), ""]
        rows = [_option(option) for option in command.params if isinstance(option, click.Option)]
        parts += ["| option | |", "| --- | --- |", *rows, ""]
    parts += ["### Exit codes", "", "| code | |", "| --- | --- |"]
    parts += [f"| {code} | {meaning} |" for code, meaning in exits.CODES]
    return "\n".join(parts)


def _option(option: click.Option) -> str:
    value = ""
    if isinstance(option.type, click.Choice):
        value = " " + r"\|".join(option.type.choices)
    elif not option.is_flag:
        value = f" {option.metavar or option.type.name.upper()}"
    help_text = option.help or ""
    if option.show_default:
        help_text += f" Default: `{option.default}`."
    if option.required:
        help_text += " Required."
    return f"| `{option.opts[0]}{value}` | {help_text} |"


if __name__ == "__main__":
    click.echo(commands_markdown(cli))
