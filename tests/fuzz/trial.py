"""Opens hostile inputs in a child process of limited time and memory, and says how each ends.

An input is the seed that it is made of, so that one can be tried again alone. Where a child ends
itself, the input that it was at killed it, and the next child goes on after it.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from circuit_atlas.storage_schema.errors import AtlasError

CPU_S = 5.0
"""What opening one input may take of the processor."""
WALL_S = 60.0
"""The same by the clock, on a machine that does other things too."""
MEMORY_BYTES = 2**28
"""What it may allocate: twice what the longest document of a unit can make objects of."""
READ = "read"
_READY = "ready\n"
_ROOT = Path(__file__).parents[2]

Run = Callable[[Random], str]
"""Makes and opens the input of a seed, and tells its kind."""
Prepare = Callable[[Path], Run]
"""Makes what all inputs need, in a folder."""


@dataclass(frozen=True)
class Trial:
    """Says how an input ended.

    Attributes:
        number: the input's.
        kind: of what kind it was; empty where it killed the process.
        outcome: `read`, the name of an error of ours, or what must not be: `foreign` or
            `killed`.
        detail: the message, or what killed it.
    """

    number: int
    kind: str
    outcome: str
    detail: str

    @property
    def bad(self) -> bool:
        """Tell whether it must not end so."""
        return self.outcome in ("foreign", "killed")


def trials(name: str, *, numbers: Sequence[int]) -> Iterator[Trial]:
    """Try a fuzzer's inputs in children, of which another goes on where one was killed."""
    left = list(numbers)
    while left:
        command = [sys.executable, "-m", "tests.fuzz", name, "--child"]
        with subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(left))
            child.stdin.close()
            begun = False
            for line in child.stdout:
                if line == _READY:
                    begun = True
                    continue
                yield Trial(left.pop(0), **json.loads(line))
        if not left:
            return
        if not begun:
            raise RuntimeError(f"{' '.join(command)} ended with {child.returncode}")
        ended = signal.Signals(-child.returncode).name if child.returncode < 0 else "an exit"
        yield Trial(left.pop(0), "", "killed", ended)


def run_child(prepare: Prepare) -> None:
    """Open the inputs that standard input names, each within its limits, and print what comes of
    them."""
    numbers = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        run = prepare(Path(folder))
        print(_READY, end="", flush=True)  # noqa: T201
        for number in numbers:
            kind, outcome, detail = _outcome(run, Random(number))
            told = {"kind": kind, "outcome": outcome, "detail": detail}
            print(json.dumps(told), flush=True)  # noqa: T201


def _outcome(run: Run, random: Random) -> tuple[str, str, str]:
    try:
        with _limits():
            return run(random), READ, ""
    except AtlasError as error:
        ours = str(error) and "\n" not in str(error)
        return _kind(error), type(error).__name__ if ours else "foreign", str(error)
    except BaseException as error:  # whatever it is, it is what a user would see
        return _kind(error), "foreign", "".join(traceback.format_exception(error))[-2000:]


def _kind(error: BaseException) -> str:
    return getattr(error, "__notes__", [""])[-1]


@contextlib.contextmanager
def _limits() -> Iterator[None]:
    """Limit what is allocated from here on, and the time: a signal that nobody handles kills."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_allocated_bytes() + MEMORY_BYTES, hard))
    signal.setitimer(signal.ITIMER_PROF, CPU_S)
    signal.setitimer(signal.ITIMER_REAL, WALL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _allocated_bytes() -> int:
    """What `RLIMIT_DATA` counts of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[5])
    return pages * os.sysconf("SC_PAGE_SIZE")
