"""The parameters of paths and queries: what they mean, and their bounds."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from circuit_atlas.service.analysis.query import nearest_fraction
from circuit_atlas.service.circuit.circuit import Circuit
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.errors import TooLargeError
from circuit_atlas.service.web.responses import Format
from circuit_atlas.service.web.server_state import ServerState
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.ranking import kernels_kept

_IDS = r"^[0-9]{1,9}(,[0-9]{1,9})*$"


async def _server(request: Request) -> ServerState:
    server: ServerState = request.app.state.server
    return server


Server = Annotated[ServerState, Depends(_server)]

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


ImageIds = Annotated[
    str | None, Field(pattern=_IDS, max_length=10 * limits.IMAGES, examples=["1,2,3"])
]


class Parameters(BaseModel):
    """Holds the query of an endpoint: each takes these, refuses those it does not know, and adds
    its own.

    An instance is what a request asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    v: str | None = Field(
        default=None,
        description="A version as an answer gave it: where it is that of this answer, the answer "
        "may be kept for ever, as it will not change.",
        max_length=64,
    )


class FormParameters(Parameters):
    """Chooses the form of a table that can also be had as a file."""

    form: Format = Field(
        default="json",
        alias="format",
        description="`json` in pages, or all rows as a `csv` or `parquet` file.",
    )


class PageParameters(FormParameters):
    """Chooses rows of a table that comes in pages."""

    offset: int = Field(
        default=0, description="Rows to leave out at the start.", ge=0, le=limits.NUMBER
    )
    limit: int | None = Field(
        default=None,
        description=f"Rows at most: up to {limits.ROWS} of JSON, {limits.PAGE} where not given; "
        "all rows of a file where not given.",
        ge=1,
        le=limits.NUMBER,
    )

    @property
    def rows(self) -> int | None:
        """Return how many rows there may be, None for all; QueryError where a page of JSON would be
        too long."""
        if self.form != "json":
            return self.limit
        if self.limit is not None and self.limit > limits.ROWS:
            raise QueryError(
                f"limit={self.limit} is too large: a page of JSON has up to {limits.ROWS}"
            )
        return self.limit or limits.PAGE


class CriterionParameters(Parameters):
    """Chooses how kernels are ranked."""

    criterion: str | None = Field(
        default=None,
        description="Which score ranks the kernels; the atlas' first where not given.",
        max_length=limits.TEXT,
    )


class AblationParameters(CriterionParameters):
    """Chooses how kernels are ranked and dropped."""

    ablation: str | None = Field(
        default=None,
        description="What stands for a dropped kernel; the atlas' first where not given.",
        max_length=limits.TEXT,
    )


class FractionParameters(CriterionParameters):
    """Chooses circuits of a kept fraction."""

    keep: float | None = Field(
        default=None,
        description="The kept fraction of the kernels that can reach the unit.",
        gt=0,
        le=1,
    )


class CircuitParameters(FractionParameters):
    """Chooses a circuit of a unit."""

    kernels: int | None = Field(
        default=None, description="Or the number of kernels.", ge=1, le=limits.NUMBER
    )
    images: ImageIds = Field(
        default=None,
        description="Ids of some of the unit's top images, with commas: the circuit of just these.",
    )

    def circuit(self, server: ServerState, unit: Unit) -> Circuit:
        """Make the circuit of a unit that is meant.

        Where neither fraction nor number is given, that of the stored fraction nearest to a tenth.

        Raises:
            QueryError: too many images, or as `Unit.circuit`.
            TooLargeError: it takes more than the server has for a question.
        """
        keep = self.keep
        if keep is None and self.kernels is None:
            keep = nearest_fraction(unit.reader)
        images = None
        if self.images is not None:
            images = tuple(int(image) for image in self.images.split(","))
            if len(images) > limits.IMAGES:
                raise QueryError(f"{len(images)} images are too many: give up to {limits.IMAGES}")
            server.check_scores(unit)
        count = self.kernels or 0 if keep is None else kernels_kept(keep, unit.commit.kernels)
        most = server.limits.kernels
        if most < count <= unit.commit.kernels:
            raise TooLargeError(
                f"the circuit has {count:,} kernels, more than this server has for a question "
                f"({most:,}): keep fewer"
            )
        return unit.circuit(
            keep=keep, kernels=self.kernels, criterion=self.criterion, images=images
        )
