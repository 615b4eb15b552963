"""The program `circuit-atlas`, from its first moment on."""

from __future__ import annotations

import signal
from typing import NoReturn


def start() -> NoReturn:
    """Run the command line; a Ctrl-C before it can answer one ends the process without a word.

    Importing takes a second or more, and an interrupt there would print where in it.
    """
    answered = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if answered:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from circuit_atlas.service.commands.cli import program

    if answered:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    program()
