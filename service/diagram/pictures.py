"""The pictures that a drawing is of, read when they are asked for."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from circuit_atlas.service.diagram.data import Content
from circuit_atlas.storage_schema.reader import Reader


@dataclass
class Pictures:
    """Pictures by image, and feature images by node.

    Attributes:
        reader: the atlas.
        features: reads the feature image of a node, as PNG.
    """

    reader: Reader
    features: Mapping[int, Callable[[], bytes]] = field(default_factory=dict)

    def jpegs(self, images: Iterable[int]) -> dict[int, bytes]:
        """Each picture as the network sees it, JPEG."""
        wanted = pa.array(sorted(set(images)), pa.int32())
        if not len(wanted):
            return {}
        table = self.reader.images(columns=["id", "picture"])
        table = table.filter(pc.is_in(table["id"], wanted))
        return dict(zip(table["id"].to_pylist(), table["picture"].to_pylist(), strict=True))

    def png(self, node: int) -> bytes:
        """The feature image of one node of the content."""
        return self.features[node]()


def used_images(content: Content, *, most: int | None = None) -> set[int]:
    """Images that the nodes' crops are of, of each node the best `most`."""
    return {crop[0] for some in content.nodes.crops for crop in some[:most]}


def data_url(data: bytes, kind: str) -> str:
    """A picture as an address that holds it."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
