"""A spec, of a file or in memory, with another store or other units in place of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from circuit_atlas.storage_schema.errors import SpecError

if TYPE_CHECKING:  # at run time a command that only prints its help would load pydantic
    from circuit_atlas.jobs.spec.build_spec import BuildSpec


def load_spec(
    spec: str | Path | BuildSpec,
    *,
    store: str | Path | None = None,
    units: str | Sequence[int] | None = None,
) -> BuildSpec:
    """Read a spec; SpecError where it cannot be used.

    Args:
        spec: path of a TOML file, or a spec that is read already.
        store: a folder, from the current one on, or a URL. Default: the spec's.
        units: channels of every layer: numbers, a range such as `0:64:2`, numbers with commas, or
            `all`. Default: those of each `[[layers]]`.
    """
    from circuit_atlas.jobs.spec.build_spec import BuildSpec

    loaded = spec if isinstance(spec, BuildSpec) else BuildSpec.load(spec)
    if store is None and units is None:
        return loaded
    values: dict[str, Any] = loaded.model_dump(mode="json", exclude_none=True)
    if store is not None:
        values["run"]["store"] = here(str(store))
    if units is not None:
        chosen = parse_units(units) if isinstance(units, str) else list(units)
        values["layers"] = [{**layer, "units": chosen} for layer in values["layers"]]
    return BuildSpec.from_values(values)


def here(store: str) -> str:
    """A store as typed: a URL as it is, a folder from the current one on; SpecError for nothing."""
    if not store.strip():
        raise SpecError(
            f"store {store!r} is empty: give a folder, or a URL such as s3://bucket/atlas"
        )
    return store if "://" in store else str(Path(store).expanduser().absolute())


def parse_units(text: str) -> str | list[int]:
    """`all`, a range such as `0:64:2`, or numbers with commas, as a spec holds them.

    >>> parse_units("0,8,16"), parse_units("0:64:2"), parse_units("5")
    ([0, 8, 16], '0:64:2', [5])
    """
    if text == "all" or ":" in text:
        return text
    try:
        numbers = [int(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or min(numbers) < 0:
        raise SpecError(
            f"units {text!r} cannot be read: give all, a range such as 0:64:2, or numbers such as "
            "0,8,16"
        )
    return numbers
