"""The program's first moments, before the command line can answer."""

from __future__ import annotations

import signal
import subprocess
import sys

from circuit_atlas import service

_INTERRUPTED = """
import builtins, os, signal

signal.signal(signal.SIGINT, signal.{handler})
real = builtins.__import__

def interrupted(name, *rest, **more):
    if name == "numpy":
        builtins.__import__ = real
        os.kill(os.getpid(), signal.SIGINT)
    return real(name, *rest, **more)

from circuit_atlas.service.commands.start import start

builtins.__import__ = interrupted
start()
"""


def _run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_ctrl_c_during_imports_ends_it_without_a_word():
    ended = _run(_INTERRUPTED.format(handler="default_int_handler"), "--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


def test_where_interrupts_are_ignored_they_stay_so():
    ended = _run(_INTERRUPTED.format(handler="SIG_IGN"), "--version")
    assert ended.returncode == 0
    assert ended.stdout.startswith("circuit-atlas, version")


def test_the_door_imports_what_is_asked_for():
    code = (
        "import sys, circuit_atlas.service as s; assert 'numpy' not in sys.modules; s.Atlas; "
        "assert 'numpy' in sys.modules; assert 'torch' not in sys.modules"
    )
    assert _run(code).stderr == ""
    assert set(service.__all__) <= set(dir(service))
    assert all(hasattr(service, name) for name in service.__all__)
