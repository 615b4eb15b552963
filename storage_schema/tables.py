"""Every Parquet table, column by column, as data. Schemas and schema page come from here.

Some tables and columns are stored under an older name than they are read by: `Table.stored` and
`Column.stored_name`. Whoever writes deals in stored names, whoever reads in public ones, and
`Table.public` stands between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from circuit_atlas.storage_schema.columns import Column, completed, is_of, schema_of
from circuit_atlas.storage_schema.errors import CorruptError


@dataclass(frozen=True)
class Table:
    """Declares one kind of table: a Parquet file of these columns, in this order.

    Attributes:
        name: what readers, SQL and HTTP call it.
        sentence: what its rows are.
        columns: in the file's order.
        stored_as: the file's name without its ending, where that is another one.
    """

    name: str
    sentence: str
    columns: tuple[Column, ...]
    stored_as: str | None = None

    @property
    def stored_name(self) -> str:
        """Return the stored file's name without its ending."""
        return self.stored_as or self.name

    @property
    def schema(self) -> pa.Schema:
        """Return the Arrow schema that readers see."""
        return schema_of(self.columns)

    @property
    def stored_schema(self) -> pa.Schema:
        """Return the Arrow schema of the stored file."""
        return pa.schema([column.field(column.stored_name) for column in self.columns])

    def table(self, rows: Sequence[object]) -> pa.Table:
        """Make a table to store of rows whose attributes are the stored columns.

        Raises:
            ValueError: a null where the column has none, or a value of another type.
        """
        names = [column.stored_name for column in self.columns]
        return self.from_columns({name: [getattr(row, name) for row in rows] for name in names})

    def from_columns(self, columns: Mapping[str, Sequence[object] | NDArray[Any]]) -> pa.Table:
        """Make a table to store of columns by stored name; ValueError as in `table`, KeyError where
        one is missing."""
        arrays = []
        for column in self.columns:
            values = columns[column.stored_name]
            try:
                array = pa.array(values, type=column.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"{self.name}.{column.name}: {error}") from error
            if column.null is None and array.null_count:
                raise ValueError(f"{self.name}.{column.name}: a null, and the column has none")
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.stored_schema)

    def to_parquet(self, table: pa.Table) -> bytes:
        """Write the Parquet file of a table to store; ValueError where its schema is another."""
        if not table.schema.equals(self.stored_schema):
            raise ValueError(f"{self.name}: not this table's columns, but {table.schema.names}")
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())

    def from_parquet(
        self, data: bytes, *, location: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """Read a stored file's columns, all or some, under the names that it has; `public` renames
        them.

        CorruptError where it can't be read.
        """
        try:
            # Not `read_table`, and no threads of Arrow's: a script that lets go of them at its end
            # is aborted ("terminate called without an active exception").
            with pq.ParquetFile(pa.BufferReader(data)) as file:
                if not is_of(file.schema_arrow, self.stored_schema):
                    raise CorruptError(
                        f"{location} has other columns than {self.name}: {file.schema_arrow.names}"
                    )
                names = self.stored_schema.names if columns is None else list(columns)
                known = [name for name in names if name in file.schema_arrow.names]
                table = file.read(known, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise CorruptError(
                f"{location} is cut or altered: {' '.join(str(error).split())}"
            ) from error
        return completed(table, [self.stored_schema.field(name) for name in names])

    def public(self, table: pa.Table) -> pa.Table:
        """Rename a stored table's columns as readers know them; other columns stay as they are."""
        public = {column.stored_name: column for column in self.columns}
        fields = [
            field if field.name not in public else public[field.name].field()
            for field in table.schema
        ]
        return pa.Table.from_arrays(table.columns, schema=pa.schema(fields))

    def stored_names(self, columns: Sequence[str]) -> list[str]:
        """Return the stored names of public ones; KeyError where there is none."""
        stored = {column.name: column.stored_name for column in self.columns}
        return [stored[name] for name in columns]


_IMAGE_ID = Column("image", pa.int32(), "image id", "Image", "The image: `id` of the images table.")
_CRITERION = Column("criterion", pa.string(), "", "Criterion", "Which score ranked the kernels.")
_ABLATION = Column(
    "ablation",
    pa.string(),
    "",
    "Ablation",
    "What stands for a dropped kernel: `zero`, or its `mean` contribution over scoring images.",
)
_TARGET = Column(
    "target",
    pa.string(),
    "",
    "Target",
    "Which response is explained, as in the header.",
    stored_as="response",
)
_LEVEL = Column(
    "level",
    pa.int16(),
    "",
    "Sparsity level",
    "Index of the kept fraction among the header's `fractions`, 0 for the largest.",
    stored_as="rung",
)
_FRACTION = Column(
    "fraction", pa.float64(), "1", "Kept fraction", "The kept fraction f of that sparsity level."
)
_KERNELS = Column(
    "kernels", pa.int32(), "kernels", "Kernels", "Kernels of the circuit: max(1, round(f N)) of N."
)
ACTING = Column(
    "acting",
    pa.int32(),
    "kernels",
    "Kernels that act",
    "Those of the circuit's kernels that lie on a path of its kernels from the image to the unit: "
    "no other can change how the unit responds to images.",
    null="The unit was stored before this was counted.",
    since=3,
)
_SPLIT = Column("split", pa.string(), "", "Split", "`scoring` or `held_out`.")

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
    ),
    Column(
        "firing_full",
        pa.float64(),
        "1",
        "Network fires at",
        "Share of the positions where the output is above 0 in the whole network.",
        null=_BEFORE_3,
        since=3,
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
    ),
    Column(
        "auc_full",
        pa.float64(),
        "1",
        "Network’s AUC of the class",
        "The same of the class score in the whole network.",
        null=_NO_CLASS,
        since=3,
    ),
)

BOX = (
    Column(
        "position_y",
        pa.int32(),
        "positions",
        "Largest output, row",
        "Row of that maximum in the output.",
    ),
    Column(
        "position_x",
        pa.int32(),
        "positions",
        "Largest output, column",
        "Column of that maximum in the output.",
    ),
    Column(
        "box_top",
        pa.int32(),
        "input pixels",
        "Box, top",
        "Top of the maximum's receptive field.",
    ),
    Column("box_left", pa.int32(), "input pixels", "Box, left", "Left of the receptive field."),
    Column("box_bottom", pa.int32(), "input pixels", "Box, bottom", "Bottom of it, exclusive."),
    Column("box_right", pa.int32(), "input pixels", "Box, right", "Right of it, exclusive."),
)

IMAGES = Table(
    "images",
    "The image set, one row an image, those left out included.",
    (
        Column(
            "id", pa.int32(), "image id", "Image", "Number of the image: its row in this table."
        ),
        Column(
            "name", pa.string(), "", "Name", "File name within the folder, or row of the table."
        ),
        Column("label", pa.string(), "", "Label", "Class of the image.", null="No label is known."),
        Column("split", pa.string(), "", "Split", "`scoring`, `held_out` or `left_out`."),
        Column("sha256", pa.string(), "hex", "SHA-256", "SHA-256 of the encoded image as found."),
        Column(
            "width", pa.int32(), "pixels", "Width", "Width as found.", null="It could not be read."
        ),
        Column(
            "height",
            pa.int32(),
            "pixels",
            "Height",
            "Height as found.",
            null="It could not be read.",
        ),
        Column(
            "mode",
            pa.string(),
            "",
            "Mode",
            "Pillow's mode as found; of an array, the type of its numbers.",
            null="It could not be read.",
        ),
        Column(
            "problem", pa.string(), "", "Problem", "Why the image is left out.", null="It is used."
        ),
        Column(
            "file",
            pa.binary(),
            "JPEG",
            "File",
            "The image as the network sees it, to look at: resized and cropped, before "
            "normalisation; channels that are no colours as the grey of their mean.",
            null="The image is left out.",
            stored_as="picture",
        ),
    ),
)

RESPONSES = Table(
    "responses",
    "What each image does to the unit, one row an image. Boxes are half-open.",
    (
        _IMAGE_ID,
        _SPLIT,
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
        ),
    ),
)

FAITHFULNESS = Table(
    "faithfulness",
    "How well the unit's circuits preserve its response: a row for each criterion, ablation, split "
    "and sparsity level.",
    (
        _CRITERION,
        _ABLATION,
        _SPLIT,
        _TARGET,
        Column("images", pa.int32(), "images", "Images", "Images the row is measured over."),
        _LEVEL,
        _FRACTION,
        _KERNELS,
        *MEASURES,
        PEARSON_IMAGES,
        *AUC,
        ACTING,
    ),
)

SUBFEATURES = Table(
    "subfeatures",
    "The same for the circuit of one top image alone, measured on that image.",
    (
        _CRITERION,
        _ABLATION,
        _TARGET,
        _IMAGE_ID,
        _LEVEL,
        _FRACTION,
        _KERNELS,
        *MEASURES,
        ACTING,
    ),
)

_GROUP = Column(
    "group", pa.int16(), "", "Group", "The sub-feature group, from 0, the largest first."
)

GROUPS = Table(
    "groups",
    "Sub-feature groups: top images that the unit sees through like kernels, by their scores.",
    (
        _CRITERION,
        _IMAGE_ID,
        _GROUP,
        Column("groups", pa.int16(), "groups", "Sub-features", "How many were found."),
        Column(
            "silhouette",
            pa.float64(),
            "1",
            "Silhouette",
            "Mean silhouette of the groups, by the distance that they were found with.",
            null="One group.",
        ),
    ),
)

SELECTIVITY = Table(
    "selectivity",
    "The response that each group's circuit preserves on each of the unit's top images, those of "
    "the group and the others.",
    (
        _CRITERION,
        _ABLATION,
        _GROUP,
        _LEVEL,
        _FRACTION,
        _KERNELS,
        _IMAGE_ID,
        Column("inside", pa.bool_(), "", "Of the group", "Whether the image is of the group."),
        Column(
            "response",
            pa.float64(),
            "of the layer's output",
            "Response",
            "r of the unit in the group's circuit, on that image.",
        ),
        Column(
            "full",
            pa.float64(),
            "of the layer's output",
            "Full response",
            "r of the unit in the whole network, on that image.",
        ),
        ACTING,
    ),
    stored_as="contrast",
)

FRAGMENTS: tuple[Table, ...] = (RESPONSES, FAITHFULNESS, SUBFEATURES, GROUPS, SELECTIVITY)

_OVER_POSITIONS = "Over the positions of the image:"
IMAGE_SUMS = Table(
    "image_sums",
    "Sums of a circuit's output c and the whole network's output y over the positions of one "
    "image: Pearson r over any choice of images is made of them. A unit has them where its build "
    "was asked for them, and no sealed generation does.",
    (
        _CRITERION,
        _ABLATION,
        _SPLIT,
        _LEVEL,
        _IMAGE_ID,
        Column("positions", pa.int32(), "positions", "Positions", "Positions of the output."),
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
        ),
        Column(
            "full_squares",
            pa.float64(),
            "of the output, squared",
            "Network, squares",
            f"{_OVER_POSITIONS} the sum of y y.",
        ),
        Column(
            "products",
            pa.float64(),
            "of the output, squared",
            "Products",
            f"{_OVER_POSITIONS} the sum of c y.",
        ),
    ),
)
ON_REQUEST: tuple[Table, ...] = (IMAGE_SUMS,)
"""Tables that a unit has where its build was asked for them."""

_CONVOLUTION = Column(
    "convolution", pa.string(), "", "Convolution", "Name of the convolution, as in the index."
)

WEIGHTS = Table(
    "weights",
    "The weights of a layer's network, one row a convolution in the order of the index.",
    (
        _CONVOLUTION,
        Column("out_channels", pa.int32(), "channels", "Output channels", "First axis."),
        Column(
            "in_channels",
            pa.int32(),
            "channels",
            "Input channels",
            "Second axis: channels of one group.",
        ),
        Column("height", pa.int32(), "pixels", "Height", "Third axis, of the convolution's input."),
        Column("width", pa.int32(), "pixels", "Width", "Fourth axis."),
        Column(
            "values",
            pa.list_(pa.float32()),
            "",
            "Weights",
            "The weights, the last axis fastest.",
            null="They are unknown.",
        ),
    ),
)

DIRECTIONS = Table(
    "directions",
    "The directions of a layer that came from a file, one row a unit, in the order of the units.",
    (
        Column("bias", pa.float32(), "of the output", "Bias", "What is added to the sum."),
        Column(
            "values",
            pa.list_(pa.float32()),
            "",
            "Weights",
            "The weight of each channel of the layer.",
        ),
    ),
)

CHANNELS = Table(
    "channels",
    "Where each output channel of each convolution of a layer's network is largest, over the "
    "scoring images and before the activation function. Boxes are half-open.",
    (
        _CONVOLUTION,
        Column("channel", pa.int32(), "", "Channel", "Output channel."),
        Column(
            "rank", pa.int16(), "", "Rank", "Rank by `maximum` among the images, from 0; at most 3."
        ),
        _IMAGE_ID,
        Column(
            "maximum",
            pa.float64(),
            "of the output",
            "Largest output",
            "Largest value over positions.",
        ),
        *BOX,
    ),
)

NETWORK: tuple[Table, ...] = (DIRECTIONS, WEIGHTS, CHANNELS)
