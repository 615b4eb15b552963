"""The images that a drawing shows, read when they are asked for."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from circuit_atlas.service.diagram.crops import Feature
from circuit_atlas.service.diagram.data import Content
from circuit_atlas.service.diagram.decoded import Kind, opened
from circuit_atlas.storage_schema.errors import CorruptError
from circuit_atlas.storage_schema.reader import Reader


@dataclass
class NodeImages:
    """Holds images by image, and feature visualizations by node.

    Attributes:
        reader: the atlas.
        features: where the feature visualizations of nodes lie, by node of the content.
    """

    reader: Reader
    features: Mapping[int, Feature]

    def jpegs(self, images: Iterable[int]) -> dict[int, bytes]:
        """Return each image as the network sees it, JPEG."""
        found = self.reader.jpegs(images)
        return {image: data for image, data in found.items() if data is not None}

    def png(self, node: int) -> bytes:
        """Return the visualization of one node of the content; CorruptError where it is missing."""
        feature = self.features[node]
        record = self.reader.feature_visualization(feature.layer, feature.unit, feature.variant)
        if record is None:
            raise CorruptError(
                f"the visualization {feature.variant!r} of {feature.layer}/{feature.unit} is gone "
                "since the diagram was made: make it anew"
            )
        return self.reader.visualization_image(record)


def used_images(content: Content, *, most: int | None = None) -> set[int]:
    """List the images that the nodes' crops are of, for each node the best `most`."""
    return {crop[0] for some in content.nodes.crops for crop in some[:most]}


def data_url(data: bytes, kind: Kind) -> str:
    """Write an image as an address that holds it; CorruptError as `opened`."""
    opened(data, kind).close()
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
