"""Deletes sealed generations that nobody needs: those before the newest whole one, and remains.

The manifest goes first, so that what is left of a deletion that was cut off is no generation, and
goes the next time. Only copies are deleted: what generations were made of stays.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from circuit_atlas.storage_schema import layer_paths, sealed
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.sealed import Generation

YOUNG_S = 24 * 3600.0
"""How long an old generation is kept for those who read it, or remains for who may be writing."""


@dataclass(frozen=True)
class OldGeneration:
    """Describes a generation that is not the newest whole one of its layer.

    Attributes:
        layer: its layer.
        generation: its name.
        whole: whether it was one, or is what was left of one.
        files: its objects.
        size_bytes: their size.
        age_s: how long ago the next whole one came, or, of remains, the last file; None where the
            store does not say.
    """

    layer: str
    generation: str
    whole: bool
    files: tuple[str, ...]
    size_bytes: int
    age_s: float | None


def old_generations(
    objects: Objects, layer: str, *, now_s: float | None = None
) -> tuple[OldGeneration, ...]:
    """Return all old generations of a layer, and remains, the oldest first.

    Args:
        objects: the store.
        layer: its name.
        now_s: the time, in seconds since 1970 UTC. Default: now, by this machine's clock; files
            are as old as the store's clock says.
    """
    now_s = time.time() if now_s is None else now_s
    present = sealed.generations(objects, layer)
    whole = [generation for generation in present if generation.whole]
    old = []
    for generation in present:
        later = whole[whole.index(generation) + 1 :] if generation.whole else []
        if generation.whole and not later:
            continue
        since_s = _manifest_s(later[0]) if later else _last_s(generation)
        old.append(
            OldGeneration(
                layer=layer,
                generation=generation.name,
                whole=generation.whole,
                files=tuple(entry.path for entry in generation.files),
                size_bytes=generation.size_bytes,
                age_s=None if since_s is None else now_s - since_s,
            )
        )
    return tuple(old)


def delete_old(
    objects: Objects, layer: str, *, older_than_s: float = YOUNG_S, now_s: float | None = None
) -> Iterator[tuple[OldGeneration, bool]]:
    """Delete a layer's old generations and remains: each, and whether it was deleted or is younger.

    Args:
        objects: the store.
        layer: its name.
        older_than_s: those of this age or above. Where a store gives no age, 0 deletes them.
        now_s: as of `old_generations`.

    WriteError where the store refuses.
    """
    for old in old_generations(objects, layer, now_s=now_s):
        due = older_than_s <= 0 or (old.age_s is not None and old.age_s >= older_than_s)
        if due:
            manifest = layer_paths.manifest(layer, old.generation)
            objects.delete(sorted(old.files, key=lambda path: path != manifest))
        yield old, due


def _manifest_s(generation: Generation) -> float | None:
    """When a generation became whole."""
    (manifest,) = (entry for entry in generation.files if layer_paths.is_manifest(entry.path))
    return manifest.modified_s


def _last_s(generation: Generation) -> float | None:
    """When its last file was written."""
    times = [entry.modified_s for entry in generation.files]
    known = [time_s for time_s in times if time_s is not None]
    return max(known) if len(known) == len(times) else None
