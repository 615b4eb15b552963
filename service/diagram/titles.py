"""What a drawing says of the circuits it shows: which kernels they are, and for which images."""

from __future__ import annotations

from circuit_atlas.service.circuit.circuit import Circuit


def titled(circuit: Circuit) -> str:
    """Return the circuit's title, and how many of the kernels that can reach the unit it keeps.

    `features.0/3 actgrad of images 1 and 8: 124 of 1,240 kernels, 10 %`
    """
    kept, whole = len(circuit), len(circuit.reachable)
    return f"{circuit.title}: {kept:,} of {whole:,} kernels, {share(kept, whole)}"


def share(kept: int, whole: int) -> str:
    """Return the shortest percentage of `whole` that is so many kernels, as a kept fraction counts
    them.

    >>> share(56, 27872), share(13936, 27872), share(0, 5), share(7, 7)
    ('0.2 %', '50 %', '0 %', '100 %')
    """
    percent = 100 * kept / max(1, whole)
    for digits in range(1, 16):
        short = float(f"{percent:.{digits}g}")
        if round(short / 100 * whole) == kept:
            break
    return f"{short:.15g} %"


def images_of(circuit: Circuit) -> tuple[int, ...]:
    """Return the ids of the images whose scores chose it, in their order; none where it was the
    whole set."""
    return tuple(dict.fromkeys(image for origin in circuit.origins for image in origin.images))


def wrapped(text: str, width: int) -> list[str]:
    """Break a text into lines of less than `width` letters, as far as its words are shorter.

    >>> wrapped("as many words as fit", 10)
    ['as many', 'words as', 'fit']
    """
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
