"""The parameters that questions share: what they mean, and their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import Depends, Path, Query, Request
from fastapi.routing import APIRoute

from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import TooLargeError
from circuit_atlas.service.web.responses import Format
from circuit_atlas.service.web.server_state import Served
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.wording import nearest

IDS = r"^[0-9]{1,9}(,[0-9]{1,9})*$"
_KEEP = 0.1


async def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


AtlasServed = Annotated[Served, Depends(_served)]

LayerName = Annotated[
    str,
    Path(
        description="A layer's name, percent-encoded (`/` as `%2F`).",
        max_length=3 * limits.TEXT,
        examples=["features.7.expand3x3"],
    ),
]
UnitName = Annotated[
    str,
    Path(
        description="A unit's number, or a direction's name, percent-encoded.",
        max_length=3 * limits.TEXT,
        examples=["64"],
    ),
]
ImageId = Annotated[int, Path(description="An image's id.", ge=0, le=limits.NUMBER)]
Criterion = Annotated[
    str | None,
    Query(
        description="Which score ranks the kernels; the atlas' first where not given.",
        max_length=limits.TEXT,
    ),
]
Ablation = Annotated[
    str | None,
    Query(
        description="What stands for a dropped kernel; the atlas' first where not given.",
        max_length=limits.TEXT,
    ),
]
Split = Annotated[
    Literal["scoring", "held_out"] | None,
    Query(description="Which images; the held-out ones where there are any and nothing is given."),
]
Threshold = Annotated[
    float,
    Query(description="The Pearson r that a circuit has to reach.", ge=-1, le=1),
]
Form = Annotated[
    Format,
    Query(alias="format", description="`json` in pages, or all rows as a `csv` or `parquet` file."),
]
Version = Annotated[
    str | None,
    Query(
        alias="v",
        description="A version as an answer gave it: where it is that of this answer, the answer "
        "may be kept for ever, as it will not change.",
        max_length=64,
    ),
]


@dataclass(frozen=True)
class Paging:
    """Which rows of a table."""

    offset: int
    limit: int | None
    form: Format

    @property
    def rows(self) -> int:
        """How many rows at most; QueryError where a page of JSON would be too long."""
        most = limits.ROWS if self.form == "json" else limits.DOWNLOAD_ROWS
        if self.limit is None:
            return limits.PAGE if self.form == "json" else most
        if self.limit > most:
            raise QueryError(f"limit={self.limit} is too large: a page of JSON has up to {most}")
        return self.limit


async def _paging(
    offset: Annotated[
        int, Query(description="Rows to leave out at the start.", ge=0, le=limits.NUMBER)
    ] = 0,
    limit: Annotated[
        int | None,
        Query(
            description=f"Rows at most: up to {limits.ROWS} of JSON, {limits.PAGE} where not "
            f"given; up to {limits.DOWNLOAD_ROWS:,} of a file, all where not given.",
            ge=1,
            le=limits.DOWNLOAD_ROWS,
        ),
    ] = None,
    form: Form = "json",
) -> Paging:
    return Paging(offset, limit, form)


Pages = Annotated[Paging, Depends(_paging)]


@dataclass(frozen=True)
class UnitReference:
    """A circuit of a unit, as addresses name it."""

    criterion: str | None
    keep: float | None
    kernels: int | None
    images: tuple[int, ...] | None

    def circuit(self, served: Served, unit: Unit) -> Circuit:
        """The circuit of a unit that is meant; QueryError as `Unit.circuit`, TooLargeError where it
        takes more than the server has for it.

        Where neither fraction nor number is given, the stored fraction nearest to a tenth.
        """
        keep = self.keep
        if keep is None and self.kernels is None:
            keep = min(unit.layer.atlas.header.fractions, key=lambda f: abs(f - _KEEP))
        if self.images is not None:
            served.check_scores(unit)
        count = self.kernels or 0 if keep is None else kernels_kept(keep, unit.commit.kernels)
        most = served.limits.kernels
        if most < count <= unit.commit.kernels:
            raise TooLargeError(
                f"the circuit has {count:,} kernels, more than this server has for a question "
                f"({most:,}): keep fewer"
            )
        return unit.circuit(
            keep=keep, kernels=self.kernels, criterion=self.criterion, images=self.images
        )


def reference(
    criterion: str | None, keep: float | None, kernels: int | None, images: str | None
) -> UnitReference:
    """From the values of a query; QueryError for too many images."""
    ids = None if images is None else tuple(int(text) for text in images.split(","))
    if ids is not None and len(ids) > limits.IMAGES:
        raise QueryError(f"{len(ids)} images are too many: give up to {limits.IMAGES}")
    return UnitReference(criterion, keep, kernels, ids)


Keep = Annotated[
    float | None,
    Query(description="The kept fraction of the kernels that can reach the unit.", gt=0, le=1),
]
Kernels = Annotated[
    int | None, Query(description="Or the number of kernels.", ge=1, le=limits.NUMBER)
]
Images = Annotated[
    str | None,
    Query(
        description="Ids of some of the unit's top images, with commas: the circuit of just these.",
        pattern=IDS,
        max_length=10 * limits.IMAGES,
        examples=["1,2,3"],
    ),
]


async def _reference(
    criterion: Criterion = None, keep: Keep = None, kernels: Kernels = None, images: Images = None
) -> UnitReference:
    return reference(criterion, keep, kernels, images)


CircuitReference = Annotated[UnitReference, Depends(_reference)]


async def only_known(request: Request) -> None:
    """Refuse a parameter that the endpoint does not have, or has twice: a typing error should not
    go unseen.

    QueryError, with the nearest names.
    """
    route: APIRoute = request.scope["route"]
    kept: dict[int, frozenset[str]] = request.app.state.parameters
    known = kept.get(id(route))
    if known is None:
        known = kept[id(route)] = _parameters(route)
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        told = name[: limits.TEXT]
        if name not in known and not any(
            name.startswith(start[:-1]) for start in known if start.endswith("*")
        ):
            raise QueryError(
                f"there is no parameter {told!r} here: "
                + nearest(told, sorted(known), what="parameters")
            )
        if names.count(name) > 1:
            raise QueryError(f"{told} is given {names.count(name)} times: give it once")


def _parameters(route: APIRoute) -> frozenset[str]:
    """The query parameters of an endpoint; `min.*` stands for all that start so."""
    names: set[str] = set((route.openapi_extra or {}).get("x-parameters", ()))
    waiting = [route.dependant]
    while waiting:
        dependant = waiting.pop()
        names.update(field.alias for field in dependant.query_params)
        waiting.extend(dependant.dependencies)
    return frozenset(names)
