"""The three stories: each picks what it is of by a rule, draws its figure, gives its numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median

from atlas import KEEP, LAYER
from pictures import HELD_OUT
from PIL import Image
from responses import Kernel, r, without
from strip import WIDTH_MM, Row, strip

from circuit_atlas.jobs.demo import squeezenet1_1
from circuit_atlas.service import Atlas, Circuit, Unit
from circuit_atlas.service.client.unit_groups import Groups
from circuit_atlas.storage_schema.wording import listed

Numbers = dict[str, str]
_EDGES = 60  # kernels of a drawing: so few that each line can be followed
_COLUMNS = 8  # pictures side by side


@dataclass(frozen=True)
class Gallery:
    """Holds what stories are made from.

    Attributes:
        atlas: with learned circuits.
        pictures: the folder of its image set.
        figures: the folder that figures are written to.
    """

    atlas: Atlas
    pictures: Path
    figures: Path

    def units(self) -> list[Unit]:
        """Lists the units that have circuits."""
        layer = self.atlas.layer(LAYER)
        units = (layer.unit(number) for number in layer.units()["unit"].to_pylist())
        return [unit for unit in units if unit.state == "done"]

    def held_out(self, labels: Iterable[str] = ("*",)) -> list[Path]:
        """Lists held-out pictures, of some classes or of all."""
        return sorted(
            path for label in labels for path in self.pictures.glob(f"{label}/{HELD_OUT}-*.png")
        )

    def draw(self, name: str, circuit: Circuit, against: Circuit | None = None) -> str:
        """Writes the drawing of a circuit, or of two; which share of the response it carries."""
        drawing = circuit.diagram(against=against, edges=_EDGES)
        drawing.figure(width_mm=WIDTH_MM).save(self.figures / f"{name}.svg")
        return _percent(drawing.content.levels[0].carried)

    def show(self, name: str, rows: Sequence[Row]) -> None:
        """Writes rows of pictures."""
        text = strip(rows, columns=_COLUMNS)
        (self.figures / f"{name}.svg").write_text(text, encoding="utf-8")

    def crops(self, unit: Unit, images: Sequence[int]) -> list[Image.Image]:
        """What the unit sees of its top images, at the maximum of each."""
        found = []
        for row in unit.top_images().to_pylist():
            if row["image"] in images:
                box = (row["box_left"], row["box_top"], row["box_right"], row["box_bottom"])
                with Image.open(self.pictures / row["name"]) as picture:
                    found.append(picture.crop(box))
        return found


def unit_story(gallery: Gallery) -> Numbers:
    """The unit whose circuit is most faithful on held-out pictures, and that circuit."""
    units = gallery.units()
    scores = {unit.number: _held_out(unit)["pearson"] or 0.0 for unit in units}
    unit = max(units, key=lambda one: scores[one.number])
    circuit = unit.circuit(keep=KEEP)
    row, published = _held_out(unit), _held_out(unit, criterion="actgrad")
    images = unit.top_images()["image"].to_pylist()[: 2 * _COLUMNS]
    rows = [Row("Where the unit responds most, the strongest first", gallery.crops(unit, images))]
    gallery.show("unit", rows)
    carried = gallery.draw("unit-circuit", circuit)
    return {
        "units": str(len(units)),
        "numbers": listed([one.number for one in units]),
        "keep": _percent(KEEP),
        "unit": str(unit.number),
        "kernels": _count(len(circuit)),
        "reachable": _count(unit.reachable_kernels),
        "held_out": str(row["images"]),
        "r": _decimal(row["pearson"]),
        "r_images": _decimal(row["pearson_images"]),
        "r_published": _decimal(published["pearson"]),
        "firing": _percent(row["firing"]),
        "firing_full": _percent(row["firing_full"]),
        "r_median": _decimal(median(scores.values())),
        "r_least": _decimal(min(scores.values())),
        "drawn": str(_EDGES),
        "carried": carried,
    }


def groups_story(gallery: Gallery) -> Numbers:
    """The unit whose groups lie furthest apart, and the circuits of its two largest groups."""
    found = [unit.groups(criterion="learned") for unit in gallery.units()]
    split = [groups for groups in found if len(groups) > 1]
    groups = max(split, key=lambda one: one.silhouette or 0.0)
    unit, (a, b) = groups.unit, groups.groups[:2]
    rows = [
        Row(
            f"Group {letter}: where the unit responds most, in {len(group)} pictures",
            gallery.crops(unit, group.images[:_COLUMNS]),
        )
        for letter, group in zip("AB", (a, b), strict=True)
    ]
    gallery.show("groups", rows)
    circuits = [group.circuit(keep=KEEP) for group in (a, b)]
    # Two drawings: in one of both, each would have half of the kernels.
    carried = [
        gallery.draw(f"groups-{letter}", one) for letter, one in zip("ab", circuits, strict=True)
    ]
    network = squeezenet1_1()
    labels = [_labels(groups, number) for number in (a.number, b.number)]
    tested = [gallery.held_out(sorted(own - other)) for own, other in (labels, labels[::-1])]
    numbers = {
        "split": str(len(split)),
        "unit": str(unit.number),
        "silhouette": _decimal(groups.silhouette),
        "groups": str(len(groups)),
        "images": str(len(groups.labels)),
        "a_images": str(len(a)),
        "b_images": str(len(b)),
        "a_held_out": str(len(tested[0])),
        "b_held_out": str(len(tested[1])),
        "a_labels": ", ".join(sorted(labels[0] - labels[1])),
        "b_labels": ", ".join(sorted(labels[1] - labels[0])),
        "kernels": _count(len(circuits[0])),
        "shared": _count(len(circuits[0] & circuits[1])),
        "iou": _decimal(circuits[0].iou(circuits[1])),
        "a_carried": carried[0],
        "b_carried": carried[1],
    }
    for letter, circuit in zip("ab", circuits, strict=True):
        small = circuit.apply_to(network)
        for other, paths in zip("ab", tested, strict=True):
            value = r(small, network, unit.number, paths) if paths else None
            numbers[f"r_{letter}_on_{other}"] = _decimal(value)
    return numbers


def kernel_story(gallery: Gallery) -> Numbers:
    """Of the kernels that most units' circuits hold, the one with the largest mean share of the
    units' activation x gradient; and what its loss costs each of them."""
    units = gallery.units()
    circuits = {unit.number: unit.circuit(keep=KEEP) for unit in units}
    counts = Counter(kernel for circuit in circuits.values() for kernel in _kernels(circuit))
    most = max(counts.values())
    shares = [_shares(unit) for unit in units]
    share, kernel = max(
        (mean(of_unit[kernel] for of_unit in shares), kernel)
        for kernel, count in counts.items()
        if count == most
    )
    users = {number: one for number, one in circuits.items() if kernel in one}
    before, after = _without(gallery, users, kernel)
    lost = {number: before[number] - after[number] for number in users}
    order = sorted(users, key=lambda number: -lost[number])
    rows = []
    for number in order:
        unit = gallery.atlas.layer(LAYER).unit(number)
        images = unit.top_images()["image"].to_pylist()[:_COLUMNS]
        text = f"Unit {number}: r {_decimal(before[number], digits=3)}, without the kernel "
        rows.append(Row(text + _decimal(after[number], digits=3), gallery.crops(unit, images)))
    gallery.show("kernel", rows)
    carried = gallery.draw("kernel-circuits", circuits[order[0]], circuits[order[1]])
    convolution, out, channel = kernel
    return {
        "shared": str(sum(count == most for count in counts.values())),
        "most": str(most),
        "convolution": convolution,
        "out": str(out),
        "channel": str(channel),
        "share": _percent(share),
        "even": _percent(1 / units[0].reachable_kernels),
        "first": str(order[0]),
        "second": str(order[1]),
        "last": str(order[-1]),
        "carried": carried,
        **{
            f"{name}_{which}": _decimal(of[order[place]], digits=3)
            for name, of in (("before", before), ("after", after))
            for which, place in (("first", 0), ("second", 1), ("last", -1))
        },
    }


def _shares(unit: Unit) -> dict[Kernel, float]:
    """Each kernel's share of the sum of the unit's activation x gradient."""
    every = unit.circuit(keep=1.0, criterion="actgrad")
    scores = every.kernels()["score"].to_numpy()
    return dict(zip(_kernels(every), (scores / scores.sum()).tolist(), strict=True))


def _without(
    gallery: Gallery, circuits: dict[int, Circuit], kernel: Kernel
) -> tuple[dict[int, float], dict[int, float]]:
    """r of each circuit on held-out pictures, and r when it lacks the kernel too."""
    network, paths = squeezenet1_1(), gallery.held_out()
    before, after = {}, {}
    for number, circuit in circuits.items():
        small = circuit.apply_to(network)
        before[number] = r(small, network, number, paths)
        after[number] = r(without(small, kernel), network, number, paths)
    return before, after


def _held_out(unit: Unit, criterion: str = "learned") -> dict[str, float]:
    """The row of a unit's faithfulness on held-out pictures."""
    (row,) = (
        row
        for row in unit.faithfulness().to_pylist()
        if row["criterion"] == criterion and row["split"] == "held_out" and row["fraction"] == KEEP
    )
    return row


def _kernels(circuit: Circuit) -> Iterable[Kernel]:
    table = circuit.kernels()
    columns = (table[name].to_pylist() for name in ("convolution", "out_channel", "in_channel"))
    return zip(*columns, strict=True)


def _labels(groups: Groups, number: int) -> set[str]:
    """The classes of a group's images."""
    rows = groups.table().to_pylist()
    return {row["label"] for row in rows if row["group"] == number}


def _decimal(value: float | None, digits: int = 2) -> str:
    """A number as the docs write them: .68."""
    return "none" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"


def _count(number: int) -> str:
    return f"{number:,}"
