"""The samples of a tar shard, as WebDataset has them: members with one key belong together.

A member's key is its path up to the first dot of its base name, and its extension what follows, in
small letters: `a/0001.jpg` and `a/0001.cls` are the image and the class of the sample `a/0001`.
Hidden members, and those in hidden folders, are none of it.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from circuit_atlas.jobs.images.folder import SUFFIXES
from circuit_atlas.jobs.images.tar_members import Member, read_members
from circuit_atlas.storage_schema.errors import ImageError
from circuit_atlas.storage_schema.wording import listed, nearest, one_line

CLASS = "cls"
"""The extension of the member with a sample's class."""
_JSON = "json"
_NO_LABEL = ("", "-1")
_PARTS = re.compile(r"((?:.*/)?[^./]+)\.([^/]+)")


@dataclass(frozen=True)
class Wanted:
    """What is to be found in each sample, with or without a dot before it.

    Attributes:
        image: the extension of the image; None where there is only one.
        label: the extension of the member, or the key in the `.json`, with the class; None for
            `.cls`.
        id: the same of the name; None for the sample's key.
    """

    image: str | None = None
    label: str | None = None
    id: str | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """An image in a shard.

    Attributes:
        key: the sample's.
        image: where the image lies.
        label: the class that a member of it tells; None where none does.
        id: the name that a member of it tells; None where none does.
    """

    key: str
    image: Member
    label: str | None
    id: str | None


@dataclass(frozen=True)
class ShardSamples:
    """What is in a shard.

    Attributes:
        samples: the samples that have an image, in the order of the images.
        extensions: those of all members.
        json_keys: the keys in `.json` members, where these were read.
        passed_over: how many members of each suffix are of no sample with an image.
    """

    samples: list[Sample] = field(default_factory=list)
    extensions: set[str] = field(default_factory=set)
    json_keys: set[str] = field(default_factory=set)
    passed_over: Counter[str] = field(default_factory=Counter)


def read_samples(file: BinaryIO, wanted: Wanted, *, size_bytes: int, location: str) -> ShardSamples:
    """Reads the headers of a shard, and the members that tell a class or a name.

    A key that comes again behind others, with an extension that it had, is another sample.

    Args:
        file: the shard, to seek in.
        wanted: what to find in each sample.
        size_bytes: of the shard.
        location: names the shard in messages.

    Raises:
        ImageError: it is no whole archive; a sample has several images, or two members of one name
            one behind the other; what tells a class or a name cannot be read.
    """
    reader = _Reader(file, wanted, location)
    for member in read_members(file, size_bytes=size_bytes, location=location):
        reader.take(member)
    return reader.found()


@dataclass
class _Group:
    """The members of one sample so far, by extension, and what they tell, by what for."""

    key: str
    members: dict[str, Member] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)


class _Reader:
    """Takes the members of a shard one after the other."""

    def __init__(self, file: BinaryIO, wanted: Wanted, location: str) -> None:
        self._file, self._location = file, location
        self._image = wanted.image and _extension(wanted.image)
        self._tells = {"label": _extension(wanted.label or CLASS)}
        self._keys = {} if wanted.label is None else {"label": wanted.label}
        if wanted.id is not None:
            self._tells["id"] = _extension(wanted.id)
            self._keys["id"] = wanted.id
        self._groups: list[_Group] = []
        self._by_key: dict[str, _Group] = {}
        self._last: _Group | None = None
        self._found = ShardSamples()

    def take(self, member: Member) -> None:
        if any(part.startswith(".") and part != ".." for part in member.name.split("/")):
            return
        parts = _PARTS.fullmatch(member.name)
        if parts is None:
            self._found.passed_over["without a suffix"] += 1
            return
        key, extension = parts[1], parts[2].lower()
        group = self._group(key, extension)
        group.members[extension] = member
        self._found.extensions.add(extension)
        for what, told in self._tells.items():
            if extension == told:
                group.texts[what] = self._text(member)
        if extension == _JSON and self._keys:
            self._take_json(group, member)

    def found(self) -> ShardSamples:
        for group in self._groups:
            image = self._image_of(group)
            if image is None:
                self._found.passed_over.update(_suffix(extension) for extension in group.members)
                continue
            label, name = (group.texts.get(what) for what in ("label", "id"))
            label = None if label in _NO_LABEL else label
            self._found.samples.append(Sample(group.key, image, label, name or None))
        self._found.samples.sort(key=lambda sample: sample.image.start)
        return self._found

    def _group(self, key: str, extension: str) -> _Group:
        """The sample that a member is of."""
        group = self._by_key.get(key)
        if group is not None and extension in group.members:
            if group is self._last:
                raise ImageError(
                    f"sample {key!r} of {self._location!r} has two members .{extension}: pack one "
                    "of them, or give them keys that differ"
                )
            group = None
        if group is None:
            group = self._by_key[key] = _Group(key)
            self._groups.append(group)
        self._last = group
        return group

    def _image_of(self, group: _Group) -> Member | None:
        if self._image is not None:
            return group.members.get(self._image)
        named = [extension for extension in group.members if _suffix(extension) in SUFFIXES]
        # `seg.png` beside `jpg` is a map of the image.
        images = [extension for extension in named if "." not in extension] or named
        if len(images) > 1:
            raise ImageError(
                f"sample {group.key!r} of {self._location!r} has several images, "
                f"{listed([f'.{extension}' for extension in images])}: set images.column to one of "
                "these; or, where each is an image by itself, give them names with a single dot"
            )
        return group.members[images[0]] if images else None

    def _take_json(self, group: _Group, member: Member) -> None:
        try:
            values = json.loads(self._text(member))
        except (ValueError, RecursionError) as error:
            raise self._unreadable(member, error) from error
        if not isinstance(values, dict):
            return
        self._found.json_keys.update(values)
        for what, key in self._keys.items():
            value = values.get(key)
            if isinstance(value, list | dict):
                raise ImageError(
                    f"images.{what}s {key!r} of {member.name!r} in {self._location!r} is no single "
                    f"value: {nearest('', _single(values), what='keys with one')}"
                )
            if value is not None:
                group.texts.setdefault(what, str(value))

    def _text(self, member: Member) -> str:
        try:
            if member.size_bytes is None:
                raise ValueError("it is a sparse file")
            self._file.seek(member.start)
            return self._file.read(member.size_bytes).decode("utf-8-sig").strip()
        except ValueError as error:
            raise self._unreadable(member, error) from error

    def _unreadable(self, member: Member, error: Exception) -> ImageError:
        return ImageError(
            f"{member.name!r} in {self._location!r} tells no class or name: {one_line(error)}; "
            "mend it, or name another member with images.labels"
        )


def _single(values: Mapping[str, object]) -> list[str]:
    return [key for key, value in values.items() if not isinstance(value, list | dict)]


def _extension(given: str) -> str:
    return given.lstrip(".").lower()


def _suffix(extension: str) -> str:
    return f".{extension.rpartition('.')[2]}"
