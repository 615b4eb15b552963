"""All that a client is told of an atlas, question by question."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from circuit_atlas.service import Atlas
from circuit_atlas.service.circuit.atlas_table import AtlasTable
from circuit_atlas.service.client.atlas_status import AtlasStatus
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.storage_schema import heartbeat, unit_tables
from circuit_atlas.storage_schema.errors import AtlasError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.reader import Reader
from tests.damage.everything import OPEN, SEALED
from tests.damage.watched import Watched

UNITS = {SEALED: (0, 1, 4, 5, 6), OPEN: (0, 1, 3)}
"""Those that are asked about one by one: of each state, of each attempt."""

Ask = Callable[[Atlas], object]
_REFUSED = "refused"
FAILED = "an error of ours"
HEARTBEATS = "heartbeats"
"""The question of which those that cannot be read are left out."""


def answers(location: str, *, questions: dict[str, Ask]) -> dict[str, object]:
    """Ask an atlas, opened anew, all questions; `FAILED` where the answer is an error of ours."""
    try:
        atlas = Atlas.open(location)
    except AtlasError:
        return dict.fromkeys(questions, FAILED)
    return {name: _answer(ask, atlas) for name, ask in questions.items()}


def sources(location: str, *, questions: dict[str, Ask]) -> dict[str, Watched]:
    """Return by question what its answer was read from, each asked of the atlas opened anew."""
    found = {}
    for name, ask in questions.items():
        found[name] = Watched(open_store(location))
        _answer(ask, Atlas(Reader(found[name])))
    return found


def questions() -> dict[str, Ask]:
    """Return every question, by name."""
    found: dict[str, Ask] = dict(_of_atlas())
    for layer, units in UNITS.items():
        found |= {f"{layer}: {name}": partial(_asked, layer, ask) for name, ask in _of_layer()}
        for unit in units:
            found |= dict(_of_unit(layer, unit))
    return found


def _answer(ask: Ask, atlas: Atlas) -> object:
    try:
        return _plain(ask(atlas))
    except AtlasError as error:
        # A question that a whole atlas refuses is answered by its refusal.
        return FAILED if error.kind != "query" else (_REFUSED, str(error))


def refused(answer: object) -> bool:
    """Tell whether an atlas said that it cannot answer."""
    return isinstance(answer, tuple) and answer[0] == _REFUSED


def _asked(layer: str, ask: Callable[[Layer], object], atlas: Atlas) -> object:
    return ask(Layer(atlas.reader, atlas.reader.layer(layer)))


def _of_atlas() -> Iterator[tuple[str, Ask]]:
    yield "header", lambda a: a.header
    yield "layers", lambda a: a.layers
    yield "status", lambda a: a.status()
    yield "status of all", lambda a: vars(AtlasStatus.read(a.reader))
    yield "plan", lambda a: a.reader.plan()
    yield "images", lambda a: a.images(files=True)
    yield "pixels", lambda a: a.reader.pixels()
    yield "responding", lambda a: a.responding(0)
    yield "search", lambda a: a.search("d")
    yield "visualization status", lambda a: a.visualization_status()
    yield "visualization failures", lambda a: a.visualization_failures()
    yield "visualizations of a channel", lambda a: _pngs(a.feature_visualizations("conv1", 2))
    yield HEARTBEATS, lambda a: heartbeat.read(a.reader.objects)


def _of_layer() -> Iterator[tuple[str, Callable[[Layer], object]]]:
    yield "index", lambda a: a.index
    yield "units", lambda a: a.units()
    yield "features", lambda a: a.features()
    yield "variants", lambda a: a.reader.feature_variants(a.name)
    yield "summary", lambda a: a.summary()
    yield "distribution", lambda a: a.distribution()
    yield "polysemanticity", lambda a: a.polysemanticity()
    yield "similarity", lambda a: a.similarity(keep=0.5).iou
    yield "uses", lambda a: a.uses("conv1", keep=0.5)
    yield "masks", lambda a: sorted((u, m.tobytes()) for u, m in a.reader.masks(a.name, "force", 1))
    yield "commits", lambda a: a.reader.commits(a.name)
    yield "failures", lambda a: a.reader.failures(a.name)
    yield "labels", lambda a: a.reader.labels(a.name)
    yield "wiring", lambda a: a.reader.wiring(a.name)
    yield "weights", lambda a: a.reader.weights(a.name)
    yield "channels", lambda a: a.reader.channels(a.name)
    yield "directions", lambda a: vars(a.reader.directions(a.name))
    for table in unit_tables.FRAGMENTS:
        yield table.name, lambda a, name=table.name: a.reader.table(a.name, name)


def _of_unit(layer: str, unit: int) -> Iterator[tuple[str, Ask]]:
    def of(ask: Callable[[Any], object]) -> Ask:
        return lambda a: ask(a.layer(layer).unit(unit))

    def read(ask: Callable[[Reader, Any], object]) -> Ask:
        return lambda a: ask(a.reader, a.layer(layer).unit(unit).commit)

    start = f"{layer}/{unit}"
    yield f"{start}: state", of(lambda u: (u.state, u.label))
    yield f"{start}: commit", of(lambda u: u.commit)
    yield f"{start}: top images", of(lambda u: u.top_images())
    yield f"{start}: responses", of(lambda u: u.responses())
    yield f"{start}: distribution", of(lambda u: u.distribution())
    yield f"{start}: faithfulness", of(lambda u: u.faithfulness())
    yield f"{start}: subfeatures", of(lambda u: u.subfeatures())
    yield f"{start}: selectivity", of(lambda u: u.selectivity())
    yield f"{start}: visualizations", of(lambda u: _pngs(u.feature_visualizations()))
    yield f"{start}: groups", of(lambda u: u.groups().table())
    yield f"{start}: groups by another", of(lambda u: u.groups(criterion="magnitude").table())
    yield f"{start}: circuit", of(lambda u: u.circuit(keep=0.1).kernels())
    yield f"{start}: circuit of images", of(lambda u: u.circuit(keep=0.1, images=[0, 2]).kernels())
    yield f"{start}: circuit by scores", of(lambda u: u.circuit(kernels=7).kernels())
    yield f"{start}: stability", of(lambda u: u.stability(keep=0.1).counts)
    yield f"{start}: image sums", read(lambda r, c: r.image_sums(c))
    yield f"{start}: contribution", read(lambda r, c: r.contribution(c))
    yield f"{start}: response maps", read(lambda r, c: r.response_maps(c))
    yield f"{start}: scores of images", read(lambda r, c: r.image_scores(c, "actgrad"))
    yield f"{start}: stored stability", read(lambda r, c: r.stability(c, "actgrad"))
    yield f"{start}: levels of groups", read(lambda r, c: r.group_levels(c, "magnitude"))
    for name in ("actgrad", "force", "magnitude"):
        yield f"{start}: scores by {name}", read(lambda r, c, name=name: r.scores(c, name))
        yield f"{start}: levels by {name}", read(lambda r, c, name=name: r.levels(c, name))
        yield f"{start}: circuit by {name}", read(lambda r, c, name=name: r.mask(c, name, 1))


def _pngs(found: Any) -> object:
    return [(one.record, one.png) for one in found]


def _plain(value: object) -> object:
    """A value that can be compared, NaN and all."""
    if isinstance(value, AtlasTable):
        value = value.to_arrow()
    if isinstance(value, pa.Table):
        return repr((value.schema.to_string(), value.to_pylist()))
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    return repr(value)
