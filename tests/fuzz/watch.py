"""Cases run in a child process, many in one, with limits of time and memory that end it.

A case is a seed of a kind. What it makes is read, or refused by an error of ours; everything else
is a fault: another error, more processor time or memory than is allowed, no end, or a signal. After
a child that had to be ended, another goes on with the next case.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from circuit_atlas.storage_schema.errors import AtlasError

TIME_S = 5.0
"""Processor time of one case."""
WAIT_S = 30.0
"""Time of one case by the clock, where it waits for something: tests have the machine to share."""
_ADDRESS_BYTES = 12 << 30

Run = Callable[[Random], None]
"""Makes what a seed says, and reads it."""
Prepare = Callable[[Path], Run]
"""Makes what the cases of a kind share, in a folder of the child's own."""


@dataclass(frozen=True)
class Outcome:
    """Says how a case ended.

    Attributes:
        number: the case's seed.
        result: `read`, `refused`, or what is at fault.
        time_s: processor time.
        memory_bytes: what it took beside what the process had.
        said: the error.
    """

    number: int
    result: str
    time_s: float
    memory_bytes: int
    said: str

    @property
    def is_fault(self) -> bool:
        """Whether it is neither read nor refused."""
        return self.result not in ("read", "refused")


def outcomes(kind: str, numbers: Sequence[int], folder: Path) -> Iterator[Outcome]:
    """Run cases of a kind, one after the other; `folder` is for what they make."""
    left = list(numbers)
    while left:
        for outcome in _of_one_child(kind, tuple(left), folder):
            left.remove(outcome.number)
            yield outcome


def _of_one_child(kind: str, numbers: Sequence[int], folder: Path) -> Iterator[Outcome]:
    """The outcomes of one child, until it ends or has to be ended."""
    command = [sys.executable, "-m", "tests.fuzz.child", kind, str(folder)]
    # Arrow's own pool keeps what it had, which would count as the next case's.
    environment = {**os.environ, "ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stderr is not None
    at = 0
    try:
        child.stdin.write(json.dumps(list(numbers)).encode())
        child.stdin.close()
        # The first line says that it is ready, which takes as long as what it has to import.
        for line in _lines(child.stdout.fileno()):
            if line.strip() == b"ready":
                continue
            yield Outcome(**json.loads(line))
            at += 1
    except TimeoutError:
        child.kill()
        yield Outcome(numbers[at], "no end", WAIT_S, 0, f"no end within {WAIT_S:g} s")
        return
    finally:
        if child.poll() is None and at < len(numbers):
            child.kill()
        error = child.stderr.read()
        child.stdout.close()
        child.stderr.close()
        code = child.wait()
    if at < len(numbers):
        said = error.decode(errors="replace")[-2000:]
        yield Outcome(numbers[at], f"ended by {code}", 0.0, 0, said)


def _lines(stream: int) -> Iterator[bytes]:
    """Lines as they come; TimeoutError where one takes too long."""
    held = b""
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        wait_s = 6 * WAIT_S
        while True:
            if not selector.select(wait_s):
                raise TimeoutError
            data = os.read(stream, 1 << 16)
            if not data:
                return
            *whole, held = (held + data).split(b"\n")
            yield from whole
            wait_s = WAIT_S


def serve(prepare: Prepare, folder: Path, *, most_bytes: int) -> None:
    """Run the cases that standard input names, and tell of each on a line of standard output; none
    may take more memory than `most_bytes` beside what the process had before."""
    numbers = json.load(sys.stdin)
    run = prepare(folder)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_BYTES, _ADDRESS_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)  # noqa: T201
    for number in numbers:
        print(json.dumps(asdict(_one(run, number, most_bytes))), flush=True)  # noqa: T201


class _Start:
    """When, and with how much memory, what is measured of a case began."""

    time_s = 0.0
    memory_bytes = 0


def made() -> None:
    """Say that a case is made, and is read from here on: what made it does not count."""
    _Start.time_s, _Start.memory_bytes = time.process_time(), resident_bytes(reset=True)


def _one(run: Run, number: int, most_bytes: int) -> Outcome:
    made()
    result, said = "read", ""
    try:
        run(Random(number))
    except AtlasError as error:
        said = str(error)
        result = "refused" if "\n" not in said else "an error of several lines"
    except Exception as error:
        result = f"foreign: {type(error).__name__}"
        said = _traced(error)
    time_s = time.process_time() - _Start.time_s
    memory = max(0, resident_bytes() - _Start.memory_bytes)
    if time_s > TIME_S:
        result = "too slow"
    elif memory > most_bytes:
        result = "too large"
    return Outcome(number, result, round(time_s, 3), memory, said[:2000])


def _traced(error: Exception) -> str:
    import traceback

    return "".join(traceback.format_exception(error))[-2000:]


def resident_bytes(*, reset: bool = False) -> int:
    """The most memory that this process had since that was reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) << 10
