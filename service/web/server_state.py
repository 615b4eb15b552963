"""One atlas as it is served: what requests share."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from importlib import import_module

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.analysis.facts import LayerFacts
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.client.layer import Layer
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web.errors import TooLargeError, named_in_path
from circuit_atlas.service.web.image_set import Box, ImageSet, ImageSetReader, box_of
from circuit_atlas.service.web.layer_facts import LayerFactCache
from circuit_atlas.service.web.layer_masks import LayerMaskCache
from circuit_atlas.service.web.layer_snapshot import LayerSnapshot, LayerSnapshots, commit_version
from circuit_atlas.service.web.limits import Limits
from circuit_atlas.service.web.middleware import segment
from circuit_atlas.service.web.raw import Raw
from circuit_atlas.service.web.responses import Answerer, digest
from circuit_atlas.service.web.visualization_index import FeatureIndex, feature_index
from circuit_atlas.service.web.work import Work
from circuit_atlas.storage_schema.errors import AtlasError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.reader import Reader

_LOG = logging.getLogger(__name__)
_CLOSING_S = 0.5
# Loaded when they are first needed, which takes a second or two.
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
        objects.location = re.split(r"[/\\]", opened.location.rstrip("/\\"))[-1] or "atlas"
        atlas = Atlas(Reader(objects))
        self.atlas = atlas
        self.limits = limits
        self.work = Work(
            threads=limits.threads, waiting=limits.waiting, patience_s=limits.patience_s
        )
        self.answers = Answerer(self.work, limits)
        self.snapshots = LayerSnapshots(atlas, fresh_s=limits.fresh_s)
        self.image_reader = ImageSetReader(atlas)
        self.raw = Raw(atlas.reader.objects, streams=limits.streams, listed=limits.listed)
        self.masks = LayerMaskCache(atlas, limits)
        self._features = feature_index(atlas.reader.objects, fresh_s=limits.fresh_s)
        self._facts = LayerFactCache(atlas.header, size_bytes=limits.digest_bytes)
        self._closed = threading.Event()
        self._warming = threading.Thread(
            target=self._load, name="circuit-atlas-warm-up", daemon=True
        )

    @property
    def name(self) -> str:
        """Return the last segment of where the atlas lies."""
        return self.atlas.location

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

    def facts(self, snapshot: LayerSnapshot) -> LayerFacts:
        """Return the facts of all stored units of a layer, read now where they are new."""
        return self._facts.of(snapshot, images=len(self.images))

    def tops(self, snapshot: LayerSnapshot, units: Sequence[int]) -> list[tuple[int, Box] | None]:
        """Return the image that each unit responds to most, and the box of the maximum on it; None
        where it has none."""
        top = self.facts(snapshot).top
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
        """Load in a thread of its own what the first pages need."""
        self._warming.start()

    def close(self) -> None:
        """Stop the threads. What hangs in one, as where a store does not answer, is left there."""
        self._closed.set()
        if self._warming.is_alive():
            self._warming.join(_CLOSING_S)
        self.work.close()

    def _load(self) -> None:
        """Look at the image set, then list each layer, then load modules."""
        try:
            self.image_reader.images()
            for name in self.snapshots.names():
                if self._closed.is_set():
                    return
                self.snapshots.overview(name)
        except AtlasError as error:
            # The request that needs it says so; here nobody listens.
            _LOG.warning("at the start: %s", error)
        for module in _LATE:
            if self._closed.is_set():
                return
            with suppress(ImportError):  # said where it is needed
                import_module(module)
