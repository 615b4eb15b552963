"""What a drawing says of the circuits it shows: which kernels, for which images, and how many."""

from __future__ import annotations

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.diagram.drawn import Drawn


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


def foot(drawn: Drawn) -> tuple[str, ...]:
    """Return what stands under a drawing: the counts, and which circuits they are of."""
    content, look, level = drawn.content, drawn.look, drawn.level
    counts = content.counts
    whose, ends = ("both circuits", "either's unit") if content.sides else ("circuit", "the unit")
    lines = [
        f"{drawn.shown:,} of {level.on_path:,} kernels on a path drawn; {whose} of "
        f"{level.kernels:,}, of {counts.reachable:,} that can reach {ends}."
    ]
    if counts.drawn:
        which = "With nothing hidden, the" if look.hide or look.selection else "The"
        of = "each response, or more" if content.sides else "the response"
        lines.append(
            f"{which} paths drawn carry {percent(level.carried)} of {of}, by absolute contribution."
        )
        if not content.beside:
            after, before = counts.crossings_after, counts.crossings_before
            lines.append(f"{after:,} crossings; {before:,} before ordering.")
    if look.selection:
        lines.append(
            f"Isolated: {look.selection}, with {len(drawn.kernels):,} kernels on its paths."
        )
    if content.sides:
        lines.append(f"Left: {content.sides[0]}; right: {content.sides[1]}.")
    if content.beside:
        lines.append(f"In one layout with {content.beside}.")
    return tuple(lines)


def percent(part: float) -> str:
    """Return a share in percent, to two digits; all and nothing as such.

    >>> percent(0.0958), percent(1.0), percent(0.9999), percent(0.0)
    ('9.6 %', 'all', '99.9 %', 'none')
    """
    if part <= 0 or part > 1 - 1e-5:
        return "none" if part <= 0 else "all"
    return f"{min(99.9, float(f'{100 * part:.2g}') if part < 0.1 else round(100 * part, 1)):g} %"


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
