"""Labels of a layer's units from a file, such as the names of a classifier's classes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from circuit_atlas.storage_schema.documents import parse
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.header import LayerIndex
from circuit_atlas.storage_schema.wording import one_line

_FORMS = (
    "give a text file of a line a channel, or JSON: a list, or an object from a unit's number to "
    "its text"
)


def read_labels(path: Path, layer: LayerIndex) -> dict[int, str]:
    """Reads what the units of a layer stand for, by number; an empty text is none.

    A text file, or a list in JSON, has an entry for each channel and none for directions. Where an
    entry in JSON is a list the last text counts, as of `{"0": ["n01440764", "tench"]}`.

    Raises SpecError where the file cannot be read, or is of other units.
    """
    what = f"the labels {str(path)!r} of layer {layer.layer!r}"
    try:
        if path.exists() and not path.is_file():  # to read from a pipe would wait for ever
            raise OSError("it is no file")
        text = path.read_text(encoding="utf-8-sig")
        content = parse(text) if path.suffix == ".json" else text.rstrip().splitlines()
    except (OSError, ValueError) as error:
        raise SpecError(f"{what} cannot be read: {one_line(error)}; {_FORMS}") from error
    if isinstance(content, list):
        if len(content) != layer.channels:
            raise SpecError(
                f"{what} are {len(content)}, and it has {layer.channels} channels: {_FORMS}"
            )
        content = {str(number): value for number, value in enumerate(content)}
    if not isinstance(content, Mapping):
        raise SpecError(f"{what} are no list and no object: {_FORMS}")
    labels = {}
    for key, value in content.items():
        if not key.isdecimal() or int(key) >= len(layer.units):
            raise SpecError(
                f"{what}: {key!r} is no unit of it, which are 0 to {len(layer.units) - 1}"
            )
        last = value[-1] if isinstance(value, list) and value else value
        if not isinstance(last, str):
            raise SpecError(f"{what}: that of {key} is {value!r}, and should be a text")
        labels[int(key)] = " ".join(last.split())
    return {number: label for number, label in labels.items() if label}
