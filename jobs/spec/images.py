"""The `[images]` table of a spec: the images, and which of them are held out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from circuit_atlas.jobs.spec.section import Listed, Positive, Section
from circuit_atlas.storage_schema.http_address import shown

DEMO = "demo:"


class ImagesSpec(Section):
    """`[images]`: the images, and which of them are held out for testing.

    Attributes:
        source: a folder of images, of `.parquet` files or of `.tar` shards (WebDataset); one such
            file, or several as `train-*.parquet` or `train-{000..099}.tar`; an array (images x
            channels x height x width) in a `.npy` file or a `.zarr` folder; the URL of any of
            these, as `s3://bucket/folder`; or `demo:photos`.
        column: the Parquet column with the images' bytes, the extension of the images in tar
            shards, or the array in a Zarr group. Default: found by its name; in a shard the only
            image of its sample.
        ids: the Parquet column with the images' names; the extension of the members of tar shards
            with them, or their key in the `.json`; of an array, a file with as many, or an array in
            the Zarr group. Default: found by its name; the rows' numbers, or the samples' keys,
            where there is none.
        labels: the same for the images' classes. Default: found by its name, by the metadata that
            Hugging Face's `datasets` writes, or in the `.cls` members of tar shards.
        label_level: which folder on the way to an image names its class: 1 for the first below the
            source, 2 for the next, ..., -1 for the one that the file lies in, -2 for the one above;
            0 for none. Default: -1.
        held_out: a fraction (drawn by the seed), the names of the held-out images, or `odd`:
            every second image, sorted by name. Default: 0.2.
        limit: use only so many images, spread evenly over the classes, each class' first by name.
            Default: all.
    """

    source: Annotated[str, Field(min_length=1)]
    column: str | None = None
    ids: str | None = None
    labels: str | None = None
    label_level: int = -1
    held_out: float | Annotated[tuple[str, ...], Listed] | Literal["odd"] = 0.2
    limit: Positive | None = None

    @field_validator("held_out", mode="before")
    @classmethod
    def _rule(cls, value: object) -> object:
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            return tuple(sorted(set(value)))
        if type(value) in (int, float) and 0 <= float(str(value)) < 1:
            return float(str(value))
        if value == "odd":
            return value
        raise ValueError('should be a fraction in [0, 1), a list of image names, or "odd"')

    @property
    def shown_source(self) -> str:
        """The source as messages name it, without who logs in at a web address."""
        return shown(self.source)

    @property
    def is_array(self) -> bool:
        """Whether the source is an array, in a `.npy` file or a `.zarr` folder."""
        path = Path(self.source)
        return path.suffix == ".npy" or any(part.endswith(".zarr") for part in path.parts)
