"""The schema version, and which versions can be read.

The version is one integer. It goes up when an older reader would misread or miss something: a path,
a meaning, a dtype. New optional objects, columns or arrays leave it as it is, since readers open
what they know by name. A reader opens every version up to its own and refuses newer ones.
"""

from __future__ import annotations

from circuit_atlas.storage_schema.errors import SchemaError

SCHEMA_VERSION = 4
NETWORK_SINCE = 2
"""The first version with each layer's wiring, weights and channels, and each unit's contribution,
response maps, groups and contrast."""
PIXELS_SINCE = 4
"""The first version with the images' pixels, in place of a JPEG of each."""
SAMPLED_SINCE = 4
"""The first version whose units may have images of their own."""


def check(version: int, *, location: str) -> None:
    """Raise SchemaError where `version` is newer than this code's."""
    if version > SCHEMA_VERSION:
        raise SchemaError(
            f"{location} has schema version {version} and this circuit-atlas reads up to "
            f"{SCHEMA_VERSION}: install a newer circuit-atlas"
        )
