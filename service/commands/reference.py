"""The documentation's page of the command line, made from the commands themselves.

`python -m circuit_atlas.service.commands.reference > docs/pages/command-line.md` writes it; a test
holds the page against the commands.
"""

from __future__ import annotations

import inspect

import click

from circuit_atlas.service.commands import exits
from circuit_atlas.service.commands.cli import cli
from circuit_atlas.service.commands.examples import EXAMPLES

_TITLE = """\
<!-- Made by `python -m circuit_atlas.service.commands.reference`; change the commands instead. -->

# The command line

`circuit-atlas --help`, or `--help` after a command, says all of this too.

A shell completes commands and options where its start-up file has the line for it:

| shell | file | line |
| --- | --- | --- |
| bash | `~/.bashrc` | `eval "$(_CIRCUIT_ATLAS_COMPLETE=bash_source circuit-atlas)"` |
| zsh | `~/.zshrc` | `eval "$(_CIRCUIT_ATLAS_COMPLETE=zsh_source circuit-atlas)"` |

fish takes `_CIRCUIT_ATLAS_COMPLETE=fish_source circuit-atlas | source`, in
`~/.config/fish/config.fish`."""


def page(group: click.Group) -> str:
    """Give the whole page: usage, help, example and options of every command, then exit codes."""
    parts = [_TITLE, ""]
    for name, command in group.commands.items():
        context = click.Context(command, info_name=f"circuit-atlas {name}")
        usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
        parts += [f"## {name}", "", f"`{usage}`", "", inspect.cleandoc(command.help or ""), ""]
        parts += ["```sh", EXAMPLES[name], "```", ""]
        rows = [_option(option) for option in command.params if isinstance(option, click.Option)]
        parts += ["| option | meaning |", "| --- | --- |", *rows, ""]
    parts += ["## Exit codes", "", "| code | meaning |", "| --- | --- |"]
    parts += [f"| {code} | {meaning} |" for code, meaning in exits.CODES]
    return "\n".join(parts)


def _option(option: click.Option) -> str:
    value = ""
    if isinstance(option.type, click.Choice):
        value = " " + "|".join(option.type.choices)
    elif not option.is_flag:
        value = f" {option.metavar or option.type.name.upper()}"
    help_text = option.help or ""
    if option.show_default:
        help_text += f" Default: `{option.default}`."
    if option.required:
        help_text += " Required."
    return f"| {_code(option.opts[0] + value)} | {help_text} |"


def _code(text: str) -> str:
    """Mark text as code in a cell of a table, where a bar would end the cell."""
    return f"<code>{text.replace('|', '&#124;')}</code>" if "|" in text else f"`{text}`"


if __name__ == "__main__":
    click.echo(page(cli))
