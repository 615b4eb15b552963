"""The `[model]` table of a spec: the network and its weights."""

from __future__ import annotations

import math
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from circuit_atlas.jobs.spec.section import Section

COLLECTIONS = ("torchvision", "timm", "demo")
"""What stands before the colon of a model that is no function of one's own."""


class ModelSpec(Section):
    """`[model]`: the network and its weights.

    Attributes:
        reference: `torchvision:NAME`, `timm:NAME`, `demo:NAME` or `package.module:function`; the
            function returns a `torch.nn.Module`.
        weights: a `.safetensors` file, or one that `torch.load(weights_only=True)` reads. Default:
            none.
        code: the folder that the module of the function lies in, which is put on the path. Default:
            none, the module is importable.
        pretrained: take torchvision's or timm's own weights where no file is given. Default: true.
        arguments: keyword arguments of the function, or of torchvision's or timm's builder: texts,
            numbers, booleans, and lists and tables of them. Default: none.
    """

    reference: Annotated[str, Field(min_length=1)]
    weights: str | None = None
    code: Annotated[str, Field(min_length=1)] | None = None
    pretrained: bool = True
    arguments: dict[str, Any] = Field(default_factory=dict)

    @field_validator("arguments")
    @classmethod
    def _plain_values(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name, item in value.items():
            if not _is_plain(item):
                raise ValueError(
                    f"has {name} = {item!r}: should be a text, a finite number, true or false, or "
                    "a list or table of such"
                )
        return value

    @model_validator(mode="after")
    def _code_of_a_function(self) -> Self:
        if self.code is not None and self.reference.partition(":")[0] in COLLECTIONS:
            raise ValueError(
                f"has code = {self.code!r}, and {self.reference!r} is no function of a module in "
                "it: leave code out"
            )
        return self


def _is_plain(value: object) -> bool:
    """Whether a value is written alike in TOML and in JSON."""
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, str | int) or (isinstance(value, float) and math.isfinite(value))
