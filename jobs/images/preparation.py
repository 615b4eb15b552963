"""The images of a source prepared: each read, decoded and cut to size once, and its pixels stored.

A chunk of images is one object of pixels and one record, put if absent; so chunks can be prepared
anywhere, in any order and twice, and what is there already stays. Records lie under a fingerprint
of the source and of what is done with its images: after a change of either they are made anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.jobs.images.arrays import ArrayListing
from circuit_atlas.jobs.images.decode import UnreadableImageError
from circuit_atlas.jobs.images.entry import Entry, Listing, ReadsBytes
from circuit_atlas.jobs.images.formats import ArrayFormat, EncodedFormat, ImageFormat
from circuit_atlas.jobs.images.image_set import ImageInfo
from circuit_atlas.jobs.images.limit import limited
from circuit_atlas.jobs.images.read_ahead import read_in_order
from circuit_atlas.jobs.images.sources import open_source
from circuit_atlas.jobs.images.splits import Candidate, held_out
from circuit_atlas.jobs.spec.build_spec import BuildSpec
from circuit_atlas.jobs.spec.preprocessing import PreprocessingSpec
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.documents import canonical, sha256
from circuit_atlas.storage_schema.errors import CorruptError, ImageError
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.pixel_chunks import checksum, put_chunk
from circuit_atlas.storage_schema.pixels import CHUNK_IMAGES, PixelForm, PixelsRecord
from circuit_atlas.storage_schema.prepared import PreparedChunk, PreparedImage
from circuit_atlas.storage_schema.wording import one_line

# Another number where the same source would be prepared otherwise.
_VERSION = 1


@dataclass(frozen=True)
class PreparedSet:
    """What all images of a source were found to be.

    Attributes:
        infos: every image, by id.
        pixels: where their values lie.
    """

    infos: tuple[ImageInfo, ...]
    pixels: PixelsRecord


@dataclass(frozen=True)
class Chunker:
    """Prepares chunks of a source's images, here or on another machine.

    Attributes:
        key: fingerprint of the source and of what is done with its images.
        entries: the images by their places, in the order in which they are best read.
        read: reads any of them.
        form: reads what was read.
    """

    key: str
    entries: tuple[Entry, ...]
    read: ReadsBytes
    form: ImageFormat

    @property
    def chunks(self) -> int:
        """How many chunks there are."""
        return -(-len(self.entries) // CHUNK_IMAGES)

    def prepared(self, objects: Objects) -> frozenset[int]:
        """Lists the chunks that are prepared."""
        listed = objects.list(layout.prepared(self.key))
        chunks = (layout.preparing(entry.path) for entry in listed)
        return frozenset(chunk for chunk in chunks if chunk is not None)

    def prepare(self, objects: Objects, chunk: int) -> int:
        """Reads the images of a chunk and stores their pixels; returns the bytes of these.

        An image that can't be read is left out, with its problem on record. Raises WriteError
        where the store refuses, and InfrastructureError where that of the images gives no answer.
        """
        start, form = chunk * CHUNK_IMAGES, self.form.form
        entries = self.entries[start : start + CHUNK_IMAGES]
        values = np.zeros((len(entries), *form.shape), form.dtype)
        read = zip(read_in_order(self.read, entries), values, strict=True)
        images = [self._decoded(data, out) for data, out in read]
        stored = put_chunk(objects, values)
        low, high = _range(form, values[[image.problem is None for image in images]])
        record = PreparedChunk(
            images=tuple(images),
            low=tuple(low),
            high=tuple(high),
            objects=(stored,),
            source=self.key,
            chunk=chunk,
        )
        path = layout.prepared_chunk(self.key, chunk)
        objects.put_if_absent(path, record.to_json().encode())
        return stored.size_bytes

    def _decoded(self, data: bytes | OSError, values: NDArray[Any]) -> PreparedImage:
        """What is on record of an image, whose values are written; or its problem."""
        problem, image = None, None
        try:
            if isinstance(data, OSError):
                raise data
            image = self.form.read(data)
            values[:] = image.values
        except (OSError, UnreadableImageError) as error:
            problem = one_line(error)
        return PreparedImage(
            sha256=sha256(b"" if isinstance(data, OSError) else data),
            width=None if image is None else image.width,
            height=None if image is None else image.height,
            mode=None if image is None else image.mode,
            problem=problem,
            pixels_crc32c=None if image is None else checksum(values),
        )


class Preparation:
    """The images of a spec, to be prepared.

    Attributes:
        spec: with the preprocessing written out.
        key: fingerprint of the source as it is now and of what is done with its images.
        form: how images are read.
    """

    def __init__(
        self, spec: BuildSpec, preprocessing: PreprocessingSpec, *, channels: int | None = None
    ) -> None:
        """Finds the source; of an array lists the images too.

        Args:
            spec: names the source and the images held out.
            preprocessing: of the images.
            channels: how many image files are to have where mean and std are the default; an array
                has as many as it has. Default: as many as mean has.

        Raises:
            ImageError: there is no such source.
            SpecError: mean and std are of another number of channels.
        """
        self._source = open_source(spec.images, patience_s=spec.run.store_patience_s)
        if spec.images.is_array:
            listing = self.listing
            assert isinstance(listing, ArrayListing)
            fitting = preprocessing.for_channels(listing.shape[0])
            self.form: ImageFormat = ArrayFormat(fitting, listing.dtype, listing.shape)
        else:
            if channels is not None and preprocessing.is_imagenets:
                preprocessing = preprocessing.for_channels(channels)
            self.form = EncodedFormat(preprocessing)
        self.spec = spec.resolved(self.form.preprocessing)
        self.key = self._fingerprint()

    @cached_property
    def listing(self) -> Listing:
        """The images by name; ImageError where there are none."""
        return self._source.listing()

    def sample(self, most: int) -> Preparation:
        """Gives the same of no more than so many images, spread evenly over the classes.

        Raises ImageError where images are held out by names that are not there.
        """
        names = {entry.name for entry in self.listing.entries}
        sample = copy(self)
        entries = limited(self.listing.entries, most)
        sample.listing = replace(self.listing, entries=entries)
        held = self.spec.images.held_out
        if isinstance(held, tuple):
            held_out([Candidate(name, "", True) for name in names], self.spec.images, seed=0)
            shown = {entry.name for entry in entries}
            images = self.spec.images.model_copy(
                update={"held_out": tuple(name for name in held if name in shown)}
            )
            sample.spec = self.spec.model_copy(update={"images": images})
        return sample

    @property
    def passed_over(self) -> Mapping[str, int]:
        """How many files of each suffix lie beside the images and are taken for none."""
        return self.listing.passed_over

    @cached_property
    def chunker(self) -> Chunker:
        """What prepares the images."""
        by_row = tuple(sorted(self.listing.entries, key=lambda entry: entry.row))
        return Chunker(self.key, by_row, self.listing.read, self.form)

    def gather(self, objects: Objects) -> PreparedSet:
        """Puts together what is on record of all chunks, and splits the images.

        Raises:
            ImageError: none can be read, or none is left for scoring.
            CorruptError: a record is missing or altered.
        """
        chunker, form = self.chunker, self.form.form
        records = _records(objects, chunker)
        by_place = [image for record in records for image in record.images]
        if len(by_place) != len(chunker.entries):
            raise CorruptError(
                f"{objects.at(layout.prepared(self.key))} has records of {len(by_place)} images "
                f"for {len(chunker.entries)}: delete that folder and build again"
            )
        places = {entry.name: place for place, entry in enumerate(chunker.entries)}
        infos = []
        for image, entry in enumerate(self.listing.entries):
            found = by_place[places[entry.name]]
            infos.append(
                ImageInfo(
                    id=image,
                    name=entry.name,
                    label=entry.label,
                    split="scoring" if found.problem is None else "left_out",
                    place=places[entry.name],
                    **vars(found),
                )
            )
        _require_some(infos, self.spec)
        ranges = [(record.low, record.high) for record in records if record.low]
        pixels = PixelsRecord(
            form,
            tuple(min(values) for values in zip(*(low for low, _ in ranges), strict=True)),
            tuple(max(values) for values in zip(*(high for _, high in ranges), strict=True)),
            CHUNK_IMAGES,
            tuple(stored for record in records for stored in record.objects),
        )
        return PreparedSet(split(infos, self.spec), pixels)

    def _fingerprint(self) -> str:
        images = self.spec.images
        preprocessing = self.form.preprocessing.model_dump(mode="json")
        what = {
            "version": _VERSION,
            "stamp": self._source.stamp,
            "images": images.model_dump(mode="json", exclude={"held_out"}),
            # They come after what is stored.
            "preprocessing": {k: v for k, v in preprocessing.items() if k not in ("mean", "std")},
            "form": asdict(self.form.form),
        }
        return hashlib.sha256(canonical(what).encode()).hexdigest()


def split(infos: Sequence[ImageInfo], spec: BuildSpec) -> tuple[ImageInfo, ...]:
    """Holds out images as the spec says.

    Raises ImageError where it names one that is not there, or none is left for scoring.
    """
    held = held_out(
        [Candidate(info.name, info.sha256, info.problem is None) for info in infos],
        spec.images,
        seed=spec.circuits.seed,
    )
    parted = tuple(
        replace(info, split="held_out") if info.problem is None and info.name in held else info
        for info in infos
    )
    if not any(info.split == "scoring" for info in parted):
        raise ImageError(
            f"no image of {spec.images.shown_source!r} is left for scoring: all "
            f"{sum(info.problem is None for info in infos)} readable ones are held out; "
            "hold out fewer, with images.held_out"
        )
    return parted


def _range(form: PixelForm, images: NDArray[Any]) -> tuple[list[float], list[float]]:
    """What is shown as black and as white, a number a channel: the ends of the range of whole
    numbers, and of others the smallest and the largest; empty where there is no image."""
    if not len(images):
        return [], []
    if form.dtype != "float32" or form.divisor != 1:
        return [0.0] * form.channels, [1.0] * form.channels
    return images.min((0, 2, 3)).tolist(), images.max((0, 2, 3)).tolist()


def _records(objects: Objects, chunker: Chunker) -> list[PreparedChunk]:
    paths = [layout.prepared_chunk(chunker.key, chunk) for chunk in range(chunker.chunks)]
    return [
        PreparedChunk.stored_at(objects, path, data)
        for path, data in zip(paths, objects.get_many(paths), strict=True)
    ]


def _require_some(infos: Sequence[ImageInfo], spec: BuildSpec) -> None:
    if all(info.problem is not None for info in infos):
        first = infos[0]
        raise ImageError(
            f"none of the {len(infos)} images in {spec.images.shown_source!r} can be read "
            f"(the first, {first.name!r}: {first.problem}): give at least one image"
        )
