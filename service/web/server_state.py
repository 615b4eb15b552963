"""One atlas as it is served: what requests share."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from importlib import import_module

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web.background_thread import Background
from circuit_atlas.service.web.errors import TooLargeError, named_in_path
from circuit_atlas.service.web.image_set import Box, ImageSet, ImageSetReader, box_of
from circuit_atlas.service.web.layer_masks import LayerMaskCache
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot, LayerSnapshots, commit_version
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.middleware import segment
from circuit_atlas.service.web.raw import Raw
from circuit_atlas.service.web.reading import LayerReading, Readings
from circuit_atlas.service.web.responses import Answerer, digest
from circuit_atlas.service.web.visualization_index import FeatureIndex, feature_index
from circuit_atlas.service.web.work import Work
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.reader import Reader

# Loaded when they are first needed, which takes a second or two; in steps, lest a request waits.
_LATE = (
    "pandas",  # which pyarrow looks for
    "circuit_atlas.service.diagram.draw",
    "scipy.linalg",
    "scipy.sparse",
    "scipy.optimize",
    "scipy.stats",
    "scipy.cluster.hierarchy",
    "sklearn.base",
    "sklearn.decomposition",
)


class ServerState:
    """Holds an atlas and what is kept of it between requests. Safe to share between threads."""

    def __init__(self, opened: Atlas, limits: Limits) -> None:
        """`opened`: the atlas as it was opened."""
        # Under its name alone: where it lies is not for clients, and messages say it.
        objects = copy(opened.reader.objects)
        objects.place = re.split(r"[/\\]", opened.place.rstrip("/\\"))[-1] or "atlas"
        atlas = Atlas(Reader(objects))
        self.atlas = atlas
        self.limits = limits
        self.work = Work(
            threads=limits.threads, waiting=limits.waiting, patience_s=limits.patience_s
        )
        self.answers = Answerer(self.work, limits)
        self.background = Background(self.work)
        self.snapshots = LayerSnapshots(atlas, fresh_s=limits.fresh_s)
        self.image_reader = ImageSetReader(atlas)
        self.raw = Raw(atlas.reader.objects, streams=limits.streams, listed=limits.listed)
        self.masks = LayerMaskCache(atlas, self.background, limits)
        self._features = feature_index(atlas.reader.objects, fresh_s=limits.fresh_s)
        self._readings: Readings | None = None

    @property
    def name(self) -> str:
        """Return the last segment of where the atlas lies."""
        return self.atlas.place

    @property
    def version(self) -> str:
        """Digest what the atlas was built from."""
        return digest(self.atlas.header.to_json())

    @property
    def images(self) -> ImageSet:
        """Return the image set."""
        return self.image_reader.images()

    @property
    def features(self) -> FeatureIndex:
        """Tell which feature visualizations there are."""
        return self._features.get()

    def layer(self, name: str) -> Layer:
        """Return a layer by its name in a path; NotFoundError where there is none."""
        return named_in_path(lambda: self.snapshots.layer(segment(name)))

    def snapshot(self, name: str) -> LayerSnapshot:
        """Tell what is stored of a layer named in a path; NotFoundError where there is none."""
        return named_in_path(lambda: self.snapshots.of(segment(name)))

    def unit(self, layer: str, unit: str) -> Unit:
        """Return a unit by number or direction, as named in a path; NotFoundError where there is
        none."""
        return named_in_path(lambda: self.layer(layer).unit(segment(unit)))

    def reading(self, snapshot: LayerSnapshot) -> LayerReading:
        """Return facts of a layer's units: of all of them where few are missing, and their scores
        not many, else as far as they are read, while the background reads on."""
        if self._readings is None:
            self._readings = Readings(
                self.atlas.header,
                images=len(self.images),
                size_bytes=self.limits.digest_bytes,
                score_bytes=self.limits.score_bytes,
            )
        reading = self._readings.of(snapshot)
        missing = reading.want(snapshot)
        size_bytes = missing * self._score_bytes(snapshot.index, self.atlas.header.top_images)
        if missing > self.limits.at_once or size_bytes > self.limits.score_bytes:
            self.background.ask(reading)
        elif missing:
            reading.read_all()
        return reading

    def tops(self, snapshot: LayerSnapshot, units: Sequence[int]) -> list[tuple[int, Box] | None]:
        """Return the image that each unit responds to most, and the box of the maximum on it; None
        where it has none. Those that are not read yet are read now: for a page of them."""
        reading = self.reading(snapshot)
        reading.read_some(units)
        top = reading.facts.top
        rows = top.filter(pc.is_in(top["unit"], pa.array(units, pa.int32()))).to_pylist()
        tops = {row["unit"]: (row["image"], box_of(row)) for row in rows}
        return [tops.get(unit) for unit in units]

    def check_scores(self, unit: Unit) -> None:
        """Raise TooLargeError where the scores of a unit's top images take more than is allowed."""
        size_bytes = self._score_bytes(unit.index, unit.commit.top_images)
        if size_bytes > self.limits.score_bytes:
            raise TooLargeError(
                f"the scores of {unit.name}'s images take {size_bytes / 2**20:,.0f} MiB, more than "
                f"this server has for a question ({self.limits.score_bytes / 2**20:,.0f}): ask "
                "from Python"
            )

    @staticmethod
    def _score_bytes(index: LayerIndex, images: int) -> int:
        """Return what a unit's scores of single images take at most."""
        return 8 * images * index.index.size

    def unit_version(self, unit: Unit) -> str:
        """Digest what is stored of a unit; QueryError where nothing is."""
        return digest(self.version, unit.layer, str(unit.number), commit_version(unit.commit))

    def warm_up(self) -> None:
        """Read in the background what every page needs first."""
        self.background.ask(_WarmUp(self))

    def close(self) -> None:
        """Stop the threads."""
        self.background.close()
        self.work.close()


class _WarmUp:
    """Looks at each layer, and then at its units, and loads what the first drawing needs: a
    chore."""

    def __init__(self, server: ServerState) -> None:
        self._server = server
        self._layers: list[str] | None = None
        self._snapshots: list[LayerSnapshot] = []
        self._modules = list(_LATE)

    def step(self) -> bool:
        """Look at the image set, then at which units each layer has, load modules, then read
        facts."""
        server = self._server
        if self._layers is None:
            self._layers = list(server.snapshots.names())
            server.image_reader.images()
        elif self._layers:
            self._snapshots.append(server.snapshots.of(self._layers.pop()))
        elif self._modules:
            with suppress(ImportError):  # said where it is needed
                import_module(self._modules.pop(0))
        elif self._snapshots:
            server.reading(self._snapshots.pop())
        return bool(self._layers or self._modules or self._snapshots)
