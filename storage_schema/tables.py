"""Every Parquet table, column by column, as data. Schemas and schema page come from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from circuit_atlas.storage_schema.errors import CorruptError


@dataclass(frozen=True)
class Column:
    """One column. `null` says what a null means, or is None where there can be none."""

    name: str
    type: pa.DataType
    unit: str
    sentence: str
    null: str | None = None


@dataclass(frozen=True)
class Table:
    """One kind of table: a Parquet file of these columns, in this order."""

    name: str
    sentence: str
    columns: tuple[Column, ...]

    @property
    def schema(self) -> pa.Schema:
        """The Arrow schema; each field's metadata carries its sentence and unit."""
        return pa.schema(
            [
                pa.field(
                    column.name,
                    column.type,
                    nullable=column.null is not None,
                    metadata={"sentence": column.sentence, "unit": column.unit},
                )
                for column in self.columns
            ]
        )

    def table(self, rows: Sequence[object]) -> pa.Table:
        """Rows whose attributes are the columns -> a table.

        Raises:
            ValueError: a null where the column has none, or a value of another type.
        """
        return self.from_columns(
            {column.name: [getattr(row, column.name) for row in rows] for column in self.columns}
        )

    def from_columns(self, columns: Mapping[str, Sequence[object]]) -> pa.Table:
        """Columns by name -> a table; ValueError as in `table`, KeyError where one is missing."""
        arrays = []
        for column in self.columns:
            values = columns[column.name]
            try:
                array = pa.array(values, type=column.type)
            except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
                raise ValueError(f"{self.name}.{column.name}: {error}") from error
            if column.null is None and array.null_count:
                raise ValueError(f"{self.name}.{column.name}: a null, and the column has none")
            arrays.append(array)
        return pa.Table.from_arrays(arrays, schema=self.schema)

    def to_parquet(self, table: pa.Table) -> bytes:
        """The Parquet file of a table; ValueError where its schema is another."""
        if not table.schema.equals(self.schema):
            raise ValueError(f"{self.name}: not this table's columns, but {table.schema.names}")
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())

    def from_parquet(
        self, data: bytes, *, place: str, columns: Sequence[str] | None = None
    ) -> pa.Table:
        """The inverse of `to_parquet`, all columns or some; CorruptError where it can't be read."""
        try:
            # Not `read_table`, and no threads of Arrow's: a script that lets go of them at its end
            # is aborted ("terminate called without an active exception").
            with pq.ParquetFile(pa.BufferReader(data)) as file:
                if not file.schema_arrow.equals(self.schema):
                    raise CorruptError(
                        f"{place} has other columns than {self.name}: {file.schema_arrow.names}"
                    )
                names = None if columns is None else list(columns)
                table = file.read(names, use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise CorruptError(
                f"{place} is cut or altered: {' '.join(str(error).split())}"
            ) from error
        return table if names is None else table.select(names)


_IMAGE_ID = Column("image", pa.int32(), "image id", "The image: `id` of the images table.")
_CRITERION = Column("criterion", pa.string(), "", "Which score ranked the kernels.")
_ABLATION = Column(
    "ablation",
    pa.string(),
    "",
    "What stands for a dropped kernel: `zero`, or its `mean` contribution over scoring images.",
)
_RESPONSE = Column("response", pa.string(), "", "The response explained, as in the header.")
_RUNG = Column("rung", pa.int16(), "", "Place in the ladder of fractions, 0 for the largest.")
_FRACTION = Column("fraction", pa.float64(), "1", "The kept fraction f of that rung.")
_KERNELS = Column(
    "kernels", pa.int32(), "kernels", "Kernels of the circuit: max(1, round(f N)) of N."
)
_SPLIT = Column("split", pa.string(), "", "`scoring` or `held_out`.")

_FAITHFULNESS = (
    Column(
        "pearson",
        pa.float64(),
        "1",
        "Pearson r, signed, between circuit and full response over all positions of the images.",
        null="One of the two is constant, so r is undefined; summaries count it as 0.",
    ),
    Column(
        "spearman",
        pa.float64(),
        "1",
        "The same for the ranks of the positions.",
        null="As for `pearson`.",
    ),
    Column(
        "relative_l1",
        pa.float64(),
        "1",
        "Sum over positions of abs(circuit - full), over the sum of abs(full).",
        null="The full response is zero everywhere.",
    ),
    Column(
        "change_at_maximum",
        pa.float64(),
        "1",
        "Circuit minus full response, over abs(full response), at the image and position where "
        "the full response is largest.",
        null="The largest response is zero.",
    ),
)

IMAGES = Table(
    "images",
    "The image set, one row an image, those left out included.",
    (
        Column("id", pa.int32(), "image id", "Number of the image: its place in this table."),
        Column("name", pa.string(), "", "File name within the folder, or row of the table."),
        Column("label", pa.string(), "", "Class of the image.", null="No label is known."),
        Column("split", pa.string(), "", "`scoring`, `held_out` or `left_out`."),
        Column("sha256", pa.string(), "hex", "SHA-256 of the encoded picture as found."),
        Column("width", pa.int32(), "pixels", "Width as found.", null="It could not be read."),
        Column("height", pa.int32(), "pixels", "Height as found.", null="It could not be read."),
        Column("mode", pa.string(), "", "Pillow's mode as found.", null="It could not be read."),
        Column("problem", pa.string(), "", "Why the image is left out.", null="It is used."),
        Column(
            "picture",
            pa.binary(),
            "JPEG",
            "The picture as the network sees it: resized and cropped, before normalisation.",
            null="The image is left out.",
        ),
    ),
)

RESPONSES = Table(
    "responses",
    "What each image does to the unit, one row an image. Boxes are half-open.",
    (
        _IMAGE_ID,
        _SPLIT,
        Column("response", pa.float64(), "of the layer's output", "r(y), the response explained."),
        Column("maximum", pa.float64(), "of the layer's output", "Largest value over positions."),
        Column("position_y", pa.int32(), "positions", "Row of that maximum in the output."),
        Column("position_x", pa.int32(), "positions", "Column of that maximum in the output."),
        Column("box_top", pa.int32(), "input pixels", "Top of the maximum's receptive field."),
        Column("box_left", pa.int32(), "input pixels", "Left of the receptive field."),
        Column("box_bottom", pa.int32(), "input pixels", "Bottom of it, exclusive."),
        Column("box_right", pa.int32(), "input pixels", "Right of it, exclusive."),
        Column(
            "rank",
            pa.int32(),
            "",
            "Place among the scoring images by response, 0 for the largest.",
            null="Not one of the unit's top images.",
        ),
    ),
)

FAITHFULNESS = Table(
    "faithfulness",
    "How well the unit's circuits preserve its response: a row a criterion, ablation, split, rung.",
    (
        _CRITERION,
        _ABLATION,
        _SPLIT,
        _RESPONSE,
        Column("images", pa.int32(), "images", "Images the row is measured over."),
        _RUNG,
        _FRACTION,
        _KERNELS,
        *_FAITHFULNESS,
    ),
)

SUBFEATURES = Table(
    "subfeatures",
    "The same for the circuit of one top image alone, measured on that image.",
    (
        _CRITERION,
        _ABLATION,
        _RESPONSE,
        _IMAGE_ID,
        _RUNG,
        _FRACTION,
        _KERNELS,
        *_FAITHFULNESS,
    ),
)

_GROUP = Column("group", pa.int16(), "", "The sub-feature group, from 0, the largest first.")

GROUPS = Table(
    "groups",
    "Sub-feature groups: top images that the unit sees through like kernels, by their scores.",
    (
        _CRITERION,
        _IMAGE_ID,
        _GROUP,
        Column("groups", pa.int16(), "groups", "How many were found."),
        Column(
            "silhouette",
            pa.float64(),
            "1",
            "Mean silhouette of the groups, by the distance that they were found with.",
            null="One group.",
        ),
    ),
)

CONTRAST = Table(
    "contrast",
    "What each group's circuit makes of the unit's top images, those of the group and the others.",
    (
        _CRITERION,
        _ABLATION,
        _GROUP,
        _RUNG,
        _FRACTION,
        _KERNELS,
        _IMAGE_ID,
        Column("inside", pa.bool_(), "", "Whether the image is of the group."),
        Column(
            "response",
            pa.float64(),
            "of the layer's output",
            "r of the unit in the group's circuit, on that image.",
        ),
        Column(
            "full",
            pa.float64(),
            "of the layer's output",
            "r of the unit in the whole network, on that image.",
        ),
    ),
)

FRAGMENTS: tuple[Table, ...] = (RESPONSES, FAITHFULNESS, SUBFEATURES, GROUPS, CONTRAST)

_CONVOLUTION = Column("convolution", pa.string(), "", "Name of the convolution, as in the index.")

WEIGHTS = Table(
    "weights",
    "The weights of a layer's network, one row a convolution in the order of the index.",
    (
        _CONVOLUTION,
        Column("out_channels", pa.int32(), "channels", "First axis."),
        Column("in_channels", pa.int32(), "channels", "Second axis: channels of one group."),
        Column("height", pa.int32(), "pixels", "Third axis, of the convolution's input."),
        Column("width", pa.int32(), "pixels", "Fourth axis."),
        Column(
            "values",
            pa.list_(pa.float32()),
            "",
            "The weights, the last axis fastest.",
            null="They are unknown.",
        ),
    ),
)

CHANNELS = Table(
    "channels",
    "Where each output channel of each convolution of a layer's network is largest, over the "
    "scoring images and before the activation function. Boxes are half-open.",
    (
        _CONVOLUTION,
        Column("channel", pa.int32(), "", "Output channel."),
        Column("rank", pa.int16(), "", "Place by `maximum` among the images, from 0; at most 3."),
        _IMAGE_ID,
        Column("maximum", pa.float64(), "of the output", "Largest value over positions."),
        Column("position_y", pa.int32(), "positions", "Row of that maximum in the output."),
        Column("position_x", pa.int32(), "positions", "Column of that maximum in the output."),
        Column("box_top", pa.int32(), "input pixels", "Top of the maximum's receptive field."),
        Column("box_left", pa.int32(), "input pixels", "Left of the receptive field."),
        Column("box_bottom", pa.int32(), "input pixels", "Bottom of it, exclusive."),
        Column("box_right", pa.int32(), "input pixels", "Right of it, exclusive."),
    ),
)

NETWORK: tuple[Table, ...] = (WEIGHTS, CHANNELS)
