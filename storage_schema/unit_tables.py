"""The tables that each unit has, or has on request."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.circuit_columns import (
    ABLATION,
    ACTING,
    CRITERION,
    FRACTION,
    KERNELS,
    LEVEL,
    SPLIT,
    TARGET,
)
from circuit_atlas.storage_schema.columns import Column
from circuit_atlas.storage_schema.grouping import MOST_GROUPS
from circuit_atlas.storage_schema.image_table import BOX, IMAGE_ID
from circuit_atlas.storage_schema.measures import AUC, MEASURES, PEARSON_IMAGES
from circuit_atlas.storage_schema.table import Table
from circuit_atlas.storage_schema.version import SAMPLED_SINCE

RESPONSES = Table(
    "responses",
    "What each image that the unit is computed on does to it, one row an image. Boxes are "
    "half-open.",
    (
        IMAGE_ID,
        SPLIT,
        Column(
            "response",
            pa.float64(),
            "of the layer's output",
            "Response",
            "r(y), the response explained.",
        ),
        Column(
            "maximum",
            pa.float64(),
            "of the layer's output",
            "Largest output",
            "Largest value over positions.",
        ),
        *BOX,
        Column(
            "rank",
            pa.int32(),
            "",
            "Rank",
            "Rank among the scoring images by response, 0 for the largest.",
            null="Not one of the unit's top images.",
            least=0,
        ),
        Column(
            "drawn",
            pa.string(),
            "",
            "Drawn",
            "Why the image is among the unit's: `top` for its response, `random` by chance.",
            null="The unit has all images of the split.",
            since=SAMPLED_SINCE,
            among=("top", "random"),
        ),
    ),
    once=(("image",), ("rank",)),
)

FAITHFULNESS = Table(
    "faithfulness",
    "How well the unit's circuits preserve its response: a row for each criterion, ablation, split "
    "and sparsity level.",
    (
        CRITERION,
        ABLATION,
        SPLIT,
        TARGET,
        Column(
            "images", pa.int32(), "images", "Images", "Images the row is measured over.", least=0
        ),
        LEVEL,
        FRACTION,
        KERNELS,
        *MEASURES,
        PEARSON_IMAGES,
        *AUC,
        ACTING,
    ),
    once=(("criterion", "ablation", "split", "target", "level"),),
)

SUBFEATURES = Table(
    "subfeatures",
    "The same for the circuit of one top image alone, measured on that image.",
    (
        CRITERION,
        ABLATION,
        TARGET,
        IMAGE_ID,
        LEVEL,
        FRACTION,
        KERNELS,
        *MEASURES,
        ACTING,
    ),
    once=(("criterion", "ablation", "target", "image", "level"),),
)

_GROUP = Column(
    "group",
    pa.int16(),
    "",
    "Group",
    "The sub-feature group, from 0, the largest first.",
    least=0,
    most=MOST_GROUPS - 1,
)

GROUPS = Table(
    "groups",
    "Sub-feature groups: top images that the unit sees through like kernels, by their scores.",
    (
        CRITERION,
        IMAGE_ID,
        _GROUP,
        Column(
            "groups",
            pa.int16(),
            "groups",
            "Sub-features",
            "How many were found.",
            least=1,
            most=MOST_GROUPS,
        ),
        Column(
            "silhouette",
            pa.float64(),
            "1",
            "Silhouette",
            "Mean silhouette of the groups, by the distance that they were found with.",
            null="One group.",
        ),
    ),
    once=(("criterion", "image"),),
)

SELECTIVITY = Table(
    "selectivity",
    "The response that each group's circuit preserves on each of the unit's top images, those of "
    "the group and the others.",
    (
        CRITERION,
        ABLATION,
        _GROUP,
        LEVEL,
        FRACTION,
        KERNELS,
        IMAGE_ID,
        Column("inside", pa.bool_(), "", "Of the group", "Whether the image is of the group."),
        Column(
            "response",
            pa.float64(),
            "of the layer's output",
            "Response",
            "r of the unit in the group's circuit, on that image.",
        ),
        Column(
            "response_full",
            pa.float64(),
            "of the layer's output",
            "Full response",
            "r of the unit in the whole network, on that image.",
            stored_as="full",
        ),
        ACTING,
    ),
    stored_as="contrast",
    once=(("criterion", "ablation", "group", "level", "image"),),
)

FRAGMENTS: tuple[Table, ...] = (RESPONSES, FAITHFULNESS, SUBFEATURES, GROUPS, SELECTIVITY)

_OVER_POSITIONS = "Over the positions of the image:"
IMAGE_SUMS = Table(
    "image_sums",
    "Sums of a circuit's output c and the whole network's output y over the positions of one "
    "image: Pearson r over any choice of images is made of them. A unit has them where its build "
    "was asked for them, and no sealed generation does.",
    (
        CRITERION,
        ABLATION,
        SPLIT,
        LEVEL,
        IMAGE_ID,
        Column(
            "positions", pa.int32(), "positions", "Positions", "Positions of the output.", least=0
        ),
        Column(
            "circuit", pa.float64(), "of the output", "Circuit", f"{_OVER_POSITIONS} the sum of c."
        ),
        Column(
            "full", pa.float64(), "of the output", "Network", f"{_OVER_POSITIONS} the sum of y."
        ),
        Column(
            "circuit_squares",
            pa.float64(),
            "of the output, squared",
            "Circuit, squares",
            f"{_OVER_POSITIONS} the sum of c c.",
            least=0,
        ),
        Column(
            "full_squares",
            pa.float64(),
            "of the output, squared",
            "Network, squares",
            f"{_OVER_POSITIONS} the sum of y y.",
            least=0,
        ),
        Column(
            "products",
            pa.float64(),
            "of the output, squared",
            "Products",
            f"{_OVER_POSITIONS} the sum of c y.",
        ),
    ),
    once=(("criterion", "ablation", "split", "level", "image"),),
)
ON_REQUEST: tuple[Table, ...] = (IMAGE_SUMS,)
"""Tables that a unit has where its build was asked for them."""
