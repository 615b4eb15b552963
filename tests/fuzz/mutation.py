"""Bytes altered by chance: flipped, cut, doubled, moved, and numbers put to their ends."""

from __future__ import annotations

from random import Random

_ODD = (b"\0", b"\xff", b"\x7f", b"\x80", b"\xff\xff\xff\xff\x0f", b"\xff" * 9 + b"\x01")


def altered(data: bytes, random: Random, others: tuple[bytes, ...] = ()) -> bytes:
    """Alter some bytes in one to four ways; `others`: what stretches may come from too."""
    found = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        _alter(found, random, others)
    return bytes(found)


def _alter(data: bytearray, random: Random, others: tuple[bytes, ...]) -> None:
    if not data:
        return
    # The beginning and the end say what the rest is.
    near = min(len(data), 400)
    at = random.choice(
        (
            random.randrange(len(data)),
            random.randrange(near),
            len(data) - 1 - random.randrange(near),
        )
    )
    size = random.choice((1, 1, 2, 4, 8, 64, 1024))
    way = random.randrange(8)
    if way == 0:
        data[at] ^= 1 << random.randrange(8)
    elif way == 1:
        data[at] = random.randrange(256)
    elif way == 2:
        del data[at : at + size]
    elif way == 3:
        data[at:at] = data[at : at + size]
    elif way == 4:
        data[at : at + size] = random.randbytes(size)
    elif way == 5:
        piece = random.choice(_ODD)
        data[at : at + random.choice((0, len(piece)))] = piece
    elif way == 6:
        del data[random.randrange(len(data)) :]
    else:
        source = random.choice(others) if others else bytes(data)
        start = random.randrange(max(1, len(source)))
        data[at : at + size] = source[start : start + size]
