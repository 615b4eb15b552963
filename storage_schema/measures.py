"""The columns that say how well a circuit preserves a response."""

from __future__ import annotations

import pyarrow as pa

from circuit_atlas.storage_schema.columns import Column

_BEFORE_3 = "The atlas is of schema version 2 or older."
MEASURES = (
    Column(
        "pearson",
        pa.float64(),
        "1",
        "Pearson r",
        "Pearson r, signed, between circuit and full response over all positions of the images.",
        null="One of the two is constant, so r is undefined; summaries count it as 0.",
    ),
    Column(
        "spearman",
        pa.float64(),
        "1",
        "Spearman’s r",
        "The same for the ranks of the positions.",
        null="As for `pearson`.",
    ),
    Column(
        "relative_l1",
        pa.float64(),
        "1",
        "Relative L1 distance",
        "Sum over positions of abs(circuit - full), over the sum of abs(full).",
        null="The full response is zero everywhere.",
        least=0,
    ),
    Column(
        "change_at_maximum",
        pa.float64(),
        "1",
        "Change at maximum",
        "Circuit minus full response, over abs(full response), at the image and position where "
        "the full response is largest.",
        null="The largest response is zero.",
    ),
    Column(
        "firing",
        pa.float64(),
        "1",
        "Fires at",
        "Share of the positions where the output is above 0 in the circuit. A circuit is silent "
        "where this is 0 and `firing_full` is not.",
        null=_BEFORE_3,
        since=3,
        least=0,
        most=1,
    ),
    Column(
        "firing_full",
        pa.float64(),
        "1",
        "Network fires at",
        "Share of the positions where the output is above 0 in the whole network.",
        null=_BEFORE_3,
        since=3,
        least=0,
        most=1,
    ),
)
PEARSON_IMAGES = Column(
    "pearson_images",
    pa.float64(),
    "1",
    "r over images",
    "Pearson r between the responses to the images, one number each, in the circuit and in the "
    "whole network.",
    null="One of the two is constant, or the atlas is of schema version 2 or older.",
    since=3,
)

_NO_CLASS = (
    "Nothing says which class the unit stands for, the layer gives no vector, no image or every "
    "one is of the class, or the atlas is of schema version 2 or older."
)
AUC = (
    Column(
        "auc",
        pa.float64(),
        "1",
        "AUC of the class",
        "Area under the ROC curve of the class score in the circuit, images of the unit's class "
        "against the others: how well the circuit still tells the class, .5 by chance.",
        null=_NO_CLASS,
        since=3,
        least=0,
        most=1,
    ),
    Column(
        "auc_full",
        pa.float64(),
        "1",
        "Network’s AUC of the class",
        "The same of the class score in the whole network.",
        null=_NO_CLASS,
        since=3,
        least=0,
        most=1,
    ),
)
