"""Ways in which a file is damaged: by a disk, by a copy that went wrong, by a hand."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

Damage = Callable[[bytes, random.Random, Sequence[bytes]], bytes | None]
"""From what lies there, and what lies at others of the kind; None: nothing is left."""


def flip(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Turn one bit over."""
    del others
    found = bytearray(data)
    found[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(found)


def byte(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put another byte in one's place."""
    del others
    found = bytearray(data)
    at = rng.randrange(len(data))
    found[at] = (found[at] + rng.randrange(1, 256)) % 256
    return bytes(found)


def cut(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Leave the first part alone, or lose some bytes in the middle."""
    del others
    start = rng.randrange(1, len(data))
    stop = rng.choice([len(data), min(len(data), start + rng.randrange(1, 9))])
    return data[:start] + data[stop:]


def empty(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Leave a file of no bytes."""
    del data, rng, others
    return b""


def delete(data: bytes, rng: random.Random, others: Sequence[bytes]) -> None:
    """Leave no file."""
    del data, rng, others


def append(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Add a byte, a line, a block of zeros, or the whole once more."""
    del others
    return data + rng.choice([bytes([rng.randrange(256)]), b"\n", bytes(512), data])


def replace(data: bytes, rng: random.Random, others: Sequence[bytes]) -> bytes:
    """Put what lies at another in its place: of another unit, attempt, layer or source, or of
    another kind where there is one of its own alone."""
    del data
    return rng.choice(others)


DAMAGES: tuple[tuple[Damage, int], ...] = (
    (flip, 6),
    (byte, 3),
    (cut, 3),
    (empty, 1),
    (delete, 1),
    (append, 3),
    (replace, 3),
)
"""Each, and how often a kind of file is damaged that way: 20 times in all."""
