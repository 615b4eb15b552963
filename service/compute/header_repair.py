"""The header of a damaged atlas, put back by the spec that the atlas was built from."""

from __future__ import annotations

from typing import TYPE_CHECKING

from circuit_atlas.storage_schema import layout, set_aside
from circuit_atlas.storage_schema.errors import CorruptError, NotAnAtlasError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.objects import Objects

if TYPE_CHECKING:  # at run time a repair that needs no spec would load torch
    from circuit_atlas.jobs.spec.build_spec import BuildSpec


def is_whole(objects: Objects) -> bool:
    """Tell whether the header of an atlas is there and whole.

    Raises:
        NotAnAtlasError: nothing of an atlas is there.
        SchemaError: the atlas is of a newer schema.
    """
    location = objects.at(layout.HEADER)
    try:
        AtlasHeader.from_json(objects.get(layout.HEADER), location=location)
    except FileNotFoundError:
        if layout.LAYERS not in objects.names():
            raise NotAnAtlasError(
                f"{objects.location} holds no atlas: give the store of a build"
            ) from None
        return False
    except CorruptError:
        return False
    return True


def restore(objects: Objects, spec: BuildSpec, *, dry_run: bool = False) -> str:
    """Make the header again, and put it where the damaged one was, which is set aside; a line that
    says so.

    Args:
        objects: the store.
        spec: what the atlas was built from.
        dry_run: change nothing. Default: do it.

    Raises:
        InputError: the spec, the model or the images cannot be used.
        MismatchError: the atlas was built from something else.
        WriteError: the store refused.
    """
    from circuit_atlas.jobs.tasks.lost_header import header_again

    data = header_again(spec, objects).to_json().encode()
    if dry_run:
        return f"to make again from the spec: {layout.HEADER}"
    name = set_aside.new_name()
    kept = set_aside.keep(objects, name, layout.HEADER, found_sha256=None)
    objects.put(layout.HEADER, data)
    where = objects.at(layout.set_aside(name, layout.HEADER))
    aside = f"; what lay there is set aside as {where}" if kept == "kept" else ""
    return f"made again from the spec: {layout.HEADER}{aside}"
