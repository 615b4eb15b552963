"""A map of a unit's top images: near each other where it computes them by the same kernels."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.service.analysis import arguments
from circuit_atlas.service.analysis.top_images import top_images
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.grouping import labels_of
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.version import NETWORK_SINCE
from circuit_atlas.storage_schema.wording import nearest

METHODS = ("pca",)
_BLOCK = 8192


def projection(reader: Reader, commit: Commit, *, criterion: str | None, method: str) -> pa.Table:
    """Map a unit's top images, see `Unit.projection`."""
    if method not in METHODS:
        raise QueryError(
            f"there is no projection {method!r}: {nearest(method, METHODS, what='methods')}"
        )
    chosen = arguments.image_criterion(reader, criterion)
    scores = reader.image_scores(commit, chosen)
    points, explained = principal(gram(scores))
    top = top_images(reader, commit)
    return pa.table(
        {
            "image": top["image"],
            "x": pa.array(points[:, 0], pa.float64()),
            "y": pa.array(points[:, 1], pa.float64()),
            "name": top["name"],
            "label": top["label"],
            "rank": top["rank"],
            "response": top["response"],
            "group": _groups(reader, commit, chosen, top["image"]),
        }
    ).replace_schema_metadata(
        {
            "criterion": chosen,
            "method": method,
            "explained_variance": json.dumps(explained),
        }
    )


def gram(scores: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the products of the images' vectors, each the square root of every kernel's share of
    the image's scores (so of length 1): their distance is the Hellinger distance of the shares
    times sqrt 2.

    Shares, since the size of all scores together says how strongly the unit responds to an image
    and not by which kernels. Their roots, since a few kernels of the first convolutions hold most
    of the score on every image, and would decide alone where the images lie. Sub-feature groups are
    found by the same distance, see `storage_schema.grouping`.

    Works through 8,192 kernels at a time. Shape: (images, images), from (images, kernels) with NaN
    for kernels out of reach.
    """
    total = np.nansum(scores, axis=1, dtype=np.float64)
    products = np.zeros((len(scores), len(scores)))
    for at in range(0, scores.shape[1], _BLOCK):
        block = np.nan_to_num(scores[:, at : at + _BLOCK].astype(np.float64))
        roots = np.sqrt(block / np.where(total > 0, total, 1.0)[:, None])
        products += roots @ roots.T
    return products


def principal(
    products: NDArray[np.float64],
) -> tuple[NDArray[np.float64], tuple[float | None, float | None]]:
    """Return the principal components 1 and 2 of vectors of which the products are known: (images,
    2), and each one's share of the variance, None where there is none.

    That is PCA in its dual form (scikit-learn's `KernelPCA` with a linear kernel): exact, and the
    size of the images' number rather than the kernels'. Of the two directions that an axis can
    have, the one in which the image farthest out is positive.

    Raises:
        QueryError: scikit-learn is not installed.
    """
    count = len(products)
    centred = products - products.mean(axis=0) - products.mean(axis=1)[:, None] + products.mean()
    variance = float(np.trace(centred))
    if count < 2 or variance <= 1e-12 * float(np.trace(products)):
        return np.zeros((count, 2)), (None, None)
    decomposition = arguments.module(
        "sklearn.decomposition", package="scikit-learn", what="projection"
    )
    model = decomposition.KernelPCA(
        n_components=2, kernel="precomputed", eigen_solver="auto", random_state=0
    )
    points = np.zeros((count, 2))
    components = model.fit_transform(products)
    points[:, : components.shape[1]] = components
    first, second = (float(value) for value in np.square(points).sum(axis=0) / variance)
    return points, (first, second)


def _groups(reader: Reader, commit: Commit, criterion: str, images: pa.ChunkedArray) -> pa.Array:
    """The stored group of each image; null in an atlas that is too old to have them."""
    if reader.header.schema < NETWORK_SINCE:
        return pa.nulls(len(images), pa.int16())
    rows = reader.groups(commit)
    rows = rows.filter(pc.equal(rows["criterion"], criterion))
    return pa.array(labels_of(rows, images.to_pylist(), what=str(commit.key)), pa.int16())
