"""What a repair found, did and left to others, in plain lines."""

from __future__ import annotations

from collections.abc import Sequence

from circuit_atlas.service.circuit.display import size
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.heartbeat import numbered
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.repair import Repair
from circuit_atlas.storage_schema.repair_plan import Subject

_SHOWN = 3
_NEXT = "the next `circuit-atlas build SPEC`"
# Who makes again what a repair cannot, and what of it.
_LEFT: dict[Subject, str] = {
    "layer": f"{_NEXT} lays out {{layers}} again",
    "arrays": f"{_NEXT} lays out the arrays of {{layers}} again",
    "network": f"{_NEXT} stores wiring, weights and top crops of {{layers}} again",
    "images": f"{_NEXT} writes table and record of the images again",
    "pixels": f"{_NEXT} prepares {{chunks}} of images again",
    "responses": f"{_NEXT} sums up the responses of units of {{layers}} again",
    "labels": "older labels of {layers} count until a build whose spec has some stores them again",
    "plan": "a plan that cannot be told comes back with the build that asked for it",
    "visualization": "the next `circuit-atlas features SPEC` makes {images} of {layers} again",
    "visualization plan": "the next `circuit-atlas features SPEC` puts its plan again",
}


def findings_text(repair: Repair) -> list[str]:
    """Tell what is damaged, a line an object."""
    return [f"{finding.kind}: {finding.message}" for finding in repair.findings]


def plan_text(repair: Repair) -> list[str]:
    """Tell what a repair would do."""
    paths = [path for step in repair.steps for path, _ in step.aside]
    put = [path for step in repair.steps for path, _ in step.put]
    sealed = sorted({step.layer for step in repair.steps if step.subject == "sealed"})
    return [
        *([f"to set aside: {_shown(paths)}"] if paths else []),
        *([f"to make again: {_shown(put)}"] if put else []),
        *([f"to seal again: {_shown(sealed)}"] if sealed else []),
        *left_text(repair),
    ]


def done_text(objects: Objects, repair: Repair) -> list[str]:
    """Tell what a repair did."""
    lines = []
    if repair.aside:
        folder = objects.at(f"{layout.SET_ASIDE}/{repair.name}")
        what = f"{_counted(len(repair.aside), 'object')}, {size(repair.size_bytes)}"
        lines.append(f"set aside in {folder}: {what}: {_shown(repair.aside)}")
    put = [path for step in repair.steps for path, _ in step.put]
    if put:
        lines.append(f"made again: {_shown(put)}")
    lines += [f"sealed again: {one.layer}, generation {one.generation}" for one in repair.sealed]
    if repair.changed:
        lines.append(f"written anew meanwhile, and left: {_shown(repair.changed)}")
    return [*lines, *left_text(repair)]


def left_text(repair: Repair) -> list[str]:
    """Tell what the next build, or `features`, does again, a line each."""
    redone = [step for step in repair.steps if step.redone]
    units: dict[str, list[int]] = {}
    for step in redone:
        if step.subject == "unit" and step.number is not None:
            units.setdefault(step.layer, []).append(step.number)
    lines = [
        f"{_NEXT} computes {numbered('unit', sorted(numbers))} of {layer} again"
        for layer, numbers in sorted(units.items())
    ]
    for subject, line in _LEFT.items():
        of_subject = [step for step in redone if step.subject == subject]
        if of_subject:
            layers = sorted({step.layer for step in of_subject})
            counts = {f"{noun}s": _counted(len(of_subject), noun) for noun in ("chunk", "image")}
            lines.append(line.format(layers=_shown(layers), **counts))
    if repair.unreadable:
        lines.append(
            f"cannot be read, and left as it is: {_shown(repair.unreadable)}: see what the "
            "system's log says of the disk, or permit reading; what is lost, delete, and repair "
            "again"
        )
    if repair.unsealed:
        lines.append(f"{_NEXT} seals {_shown(repair.unsealed)}")
    return lines


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _shown(names: Sequence[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
