"""An atlas of one layer whose circuits' maps are drawn, so that every number of it is known."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from circuit_atlas.jobs.circuits.circuit_runs import CircuitRun
from circuit_atlas.jobs.circuits.faithfulness import FullResponse
from circuit_atlas.jobs.circuits.image_sums import image_sums
from circuit_atlas.service import Atlas
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.template import Plan, create
from circuit_atlas.storage_schema.writer import Writer
from tests.service.conftest import FRACTIONS, layer_conv3, make_header, make_images, make_record

CRITERIA = ("actgrad", "learned", "random")
UNITS = (0, 1, 2, 4)
# As in `make_images`.
SPLITS = ("scoring", "scoring", "scoring", "scoring", "held_out")
_NOISE = {"actgrad": (0.0, 0.5, 3.0), "learned": (0.0, 0.2, 1.0), "random": (0.0, 2.0, 9.0)}


@dataclass(frozen=True)
class Planted:
    """The atlas, and the maps of its units.

    Attributes:
        full: (images, height, width), by unit.
        maps: (levels, images, height, width), by unit and criterion.
    """

    atlas: Atlas
    full: dict[int, np.ndarray]
    maps: dict[tuple[int, str], np.ndarray]

    def r(self, unit: int, criterion: str, split: str, level: int) -> float:
        """Pearson r by numpy's own correlation, 0 where it is undefined."""
        images = [n for n, own in enumerate(SPLITS) if own == split]
        circuit, full = self.maps[unit, criterion][level, images], self.full[unit][images]
        return (
            0.0 if np.ptp(circuit) == 0 else float(np.corrcoef(circuit.ravel(), full.ravel())[0, 1])
        )


def write_planted(
    location: Path,
    *,
    units: tuple[int, ...] = UNITS,
    sums: bool = True,
    criteria: tuple[str, ...] = CRITERIA,
) -> Planted:
    """Unit 2's random circuit of the smallest fraction is silent; all kernels of the network are
    the network, whoever chose them."""
    header = replace(make_header(), criteria=criteria, image_criteria=("actgrad",))
    layer, objects = layer_conv3(), open_store(location, create=True)
    plan = Plan((("conv3", (*units, 3)),))
    create(objects, header, [layer], plan=plan, **make_images(objects))
    writer = Writer(objects, header, layer)
    full, maps = {}, {}
    for unit in units:
        rng = np.random.default_rng(unit)
        full[unit] = rng.normal(0.2, 1.0, (5, 6, 6)).clip(0).astype(np.float32)
        tables, rows, record = [], [], make_record(header, layer, unit)
        for name in criteria:
            noise = np.asarray(_NOISE[name])[:, None, None, None]
            drawn = full[unit] + noise * rng.normal(size=(3, 5, 6, 6)).clip(0)
            if (unit, name) == (2, "random"):
                drawn[2] = 0.0
            run = CircuitRun(unit, "zero", np.ones((3, 1), dtype=bool), full[unit], range(5))
            run.maps[:] = drawn
            maps[unit, name] = run.maps
            tables.append(image_sums(name, run, images=range(5), splits=SPLITS))
        for row in record.faithfulness:
            images = [n for n, split in enumerate(SPLITS) if split == row.split]
            circuit = maps[unit, row.criterion][row.rung, images]
            found = FullResponse(full[unit][images]).compare(circuit)
            rows.append(replace(row, **vars(found)))
        times_s = dict(zip(CRITERIA, (0.5, 10.0, 0.25), strict=True))
        writer.commit(
            replace(
                record,
                faithfulness=tuple(rows),
                criteria=tuple(
                    replace(one, compute_s=times_s[one.name] + unit) for one in record.criteria
                ),
                image_sums=pa.concat_tables(tables) if sums else None,
            )
        )
    return Planted(Atlas.open(location), full, maps)


LEVELS = range(len(FRACTIONS))
