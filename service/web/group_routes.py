"""The sub-feature groups of a unit, and what their circuits preserve of its images."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from circuit_atlas.service.analysis.polysemanticity import of_groups
from circuit_atlas.service.client.unit import Unit
from circuit_atlas.service.web import limits
from circuit_atlas.service.web.answer_route import AnswerRoute
from circuit_atlas.service.web.parameters import (
    AblationParameters,
    CriterionParameters,
    FormParameters,
    ImageIds,
    LayerName,
    PageParameters,
    Server,
    UnitName,
)
from circuit_atlas.service.web.responses import AnswerSource, Body, to_file
from circuit_atlas.service.web.rows import Rows, page_or_file, rows_of
from circuit_atlas.storage_schema.grouping import APART, RejectedSplit
from circuit_atlas.storage_schema.ranking import KEEP

router = APIRouter(
    prefix="/layers/{layer}/units/{unit}", tags=["analysis"], route_class=AnswerRoute
)


class GroupedImage(BaseModel):
    """Says to which group a top image belongs."""

    image: int
    name: str
    label: str | None = Field(description="Null: none is known.")
    rank: int = Field(description="0 for the largest response.")
    response: float
    group: int = Field(description="From 0, the largest group first.")


class GroupPair(BaseModel):
    """Says how much the circuits of two groups' images share."""

    group: int
    other_group: int
    between: float | None = Field(description="Mean agreement of an image of each.")
    within: float | None = Field(description="The same within the groups. Null: undefined.")
    difference: float | None = Field(description="1 - between / within, in [0, 1].")


class RejectedFacts(BaseModel):
    """Describes the best split of images that are one group, as it did not pass the test."""

    groups: int = Field(description="Its groups.")
    silhouette: float = Field(description="How well they part, -1 to 1.")
    apart: float = Field(description="How far images of different groups are apart on average.")
    needed: float = Field(description="How far they have to be.")
    chance: float | None = Field(
        description="Share of samples of one group that are split as well: at most .05 is needed. "
        "Null: they are too near to ask."
    )

    @classmethod
    def of(cls, split: RejectedSplit) -> RejectedFacts:
        """Take what was found."""
        return cls(
            groups=split.count,
            silhouette=split.silhouette,
            apart=split.apart,
            needed=APART,
            chance=split.chance,
        )


class GroupsAnswer(BaseModel):
    """Lists the sub-feature groups of a unit."""

    criterion: str
    groups: int = Field(description="How many.")
    silhouette: float | None = Field(description="How well they part, -1 to 1. Null: one group.")
    polysemanticity: float | None = Field(
        description="0 for one feature, 1 where images of different groups share no more kernels "
        "than chance. Null: undefined, or the criterion has no scores of single images."
    )
    pairs: list[GroupPair] = Field(description="What it is the mean of.")
    rejected: RejectedFacts | None = Field(
        description="The best split that was rejected. Null: there are several groups, or too few "
        "images to split, or the criterion has no scores of single images."
    )
    rows: list[GroupedImage] = Field(description="The top images, by rank.")


class SelectivityRow(BaseModel):
    """Says what a group's circuit preserves of its own images, and of the others'."""

    group: int
    level: int
    fraction: float
    kernels: int = Field(description="Of the group's circuit.")
    images: int = Field(description="Of the group.")
    others: int = Field(description="The unit's other top images.")
    preserved: float | None = Field(
        description="Response to the group's images, over that of the whole network."
    )
    leaked: float | None = Field(description="The same over the other images.")
    selectivity: float | None = Field(description="preserved - leaked.")


SelectivityRows = rows_of(
    SelectivityRow,
    measured=(
        bool,
        Field(description="Whether the circuits ran. If not: shares of the images' scores."),
    ),
)


class GroupsParameters(CriterionParameters, FormParameters):
    """Chooses the groups of a unit."""

    number: int | None = Field(
        default=None,
        alias="groups",
        description="How many, found anew from the stored scores; the stored groups where not "
        "given.",
        ge=1,
        le=limits.IMAGES,
    )


class SelectivityParameters(AblationParameters, PageParameters):
    """Chooses whose selectivity is meant: that of the stored groups, of others, or of images."""

    number: int | None = Field(
        default=None,
        alias="groups",
        description="Of so many groups, found anew: by the scores that their circuits hold.",
        ge=1,
        le=limits.IMAGES,
    )
    images: ImageIds = Field(
        default=None,
        description="Of the circuit of these top images, with commas, against the others: by the "
        "scores that it holds.",
    )

    def members(self, unit: Unit) -> dict[int, tuple[int, ...]] | None:
        """Return the images of each group that was asked for; None for the stored groups."""
        if self.images is not None:
            return {0: tuple(int(image) for image in self.images.split(","))}
        if self.number is not None:
            return unit.groups(criterion=self.criterion, groups=self.number).grouping.members()
        return None


@router.get("/groups", response_model=GroupsAnswer)
def groups(
    server: Server, layer: LayerName, unit: UnitName, query: Annotated[GroupsParameters, Query()]
) -> AnswerSource:
    """List the unit's sub-feature groups: top images that it computes by the same kernels."""
    one = server.unit(layer, unit)

    def render() -> GroupsAnswer | Body:
        if query.number is not None:
            server.check_scores(one)
        labels = one.groups(criterion=query.criterion, groups=query.number)
        table = labels.table().to_arrow()
        if query.form != "json":
            return to_file(table, query.form, name=f"{one.layer}-{one.info.name}-groups")
        server.check_scores(one)
        value, pairs, rejected = None, [], None
        if labels.criterion in one.reader.header.image_criteria:
            measure = of_groups(one.reader, one.commit, labels.grouping, keep=KEEP)
            value, pairs = measure.value, measure.pairs.to_pylist()
            if len(labels) == 1 and query.number is None:
                again = one.groups(criterion=labels.criterion, groups="auto")
                rejected = again.grouping.rejected
        return GroupsAnswer(
            criterion=labels.criterion,
            groups=len(labels),
            silhouette=labels.silhouette,
            polysemanticity=value,
            pairs=[GroupPair(**row) for row in pairs],
            rejected=None if rejected is None else RejectedFacts.of(rejected),
            rows=[GroupedImage(**row) for row in table.to_pylist()],
        )

    return AnswerSource(server.unit_version(one), render)


@router.get("/selectivity", response_model=SelectivityRows)
def selectivity(
    server: Server,
    layer: LayerName,
    unit: UnitName,
    query: Annotated[SelectivityParameters, Query()],
) -> AnswerSource:
    """Tell how much of the responses to its own images each group's circuit preserves, and how much
    of those to the others'; there are no rows for one group. `selectivity-by-image` has what it is
    made of. Of other groups, how much of the images' scores the circuits hold."""
    one = server.unit(layer, unit)
    name = f"{one.layer}-{one.info.name}-selectivity"

    def render() -> Rows | Body:
        members = query.members(one)
        if members is None:
            table = one.selectivity(criterion=query.criterion, ablation=query.ablation).to_arrow()
        else:
            server.check_scores(one)
            table = one.score_selectivity(members, criterion=query.criterion).to_arrow()
        return page_or_file(table, SelectivityRows, query, name=name, measured=members is None)

    return AnswerSource(server.unit_version(one), render)
