"""What every table of a build spec is: a frozen object, every value checked."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# TOML has lists only, and strict checking would refuse a list where a tuple is wanted.
Listed = Field(strict=False)
Positive = Annotated[int, Field(ge=1)]
Finite = Annotated[float, Field(allow_inf_nan=False)]


class Section(BaseModel):
    """A table of the spec: frozen, without unknown keys, and no value turned into another type."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
