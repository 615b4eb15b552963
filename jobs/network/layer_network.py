"""The part of a model that computes one layer, as steps that run one after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from circuit_atlas.jobs.network.convolution import ConvWeights, channels_last
from circuit_atlas.jobs.network.site import Site
from circuit_atlas.jobs.network.step import Step, filled

Replaced = Mapping[str, ConvWeights]
"""What convolutions run with in place of the model's weights, by the name of the step."""

SizeNode = tuple[str, Callable[..., Any], tuple[Any, ...]]
"""The name of an integer value, and what it is computed by."""


@dataclass(frozen=True)
class Sizes:
    """Integer values that depend on the batch size alone."""

    nodes: tuple[SizeNode, ...]
    image_shape: tuple[int, ...]

    def at(self, batch: int, image: str) -> dict[str, Any]:
        """Computes every integer of the graph for a batch of that many images."""
        values: dict[str, Any] = {image: torch.empty((batch, *self.image_shape), device="meta")}
        for name, call, args in self.nodes:
            values[name] = call(*filled(args, values))
        del values[image]
        return values


@dataclass(frozen=True)
class Network:
    """The part of a model that computes one layer, from the image on.

    Attributes:
        layer: the layer's module path.
        image: name of the image among the values; its shape is (batch, *image_shape).
        steps: the operations in an order in which they can run, the layer's output last.
        sites: the convolutions, in the order in which they first run.
        sizes: batch-dependent integers.
        image_shape: (channels, height, width).
        image_dtype: of the image, that of the network's weights.
        by_name: the steps by name.
        base: name of the step whose result is the module's own output.
        after: says after which operations on that the layer's output is taken; empty for none.
        measured: what was found out about it, kept: its steps' kinds (`step_kinds.once`), what
            they read (`reads`), and the ways of its layer by circuits.
    """

    layer: str
    image: str
    steps: tuple[Step, ...]
    sites: tuple[Site, ...]
    sizes: Sizes
    image_shape: tuple[int, ...]
    image_dtype: torch.dtype
    by_name: Mapping[str, Step] = field(repr=False)
    base: str
    after: str
    measured: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    @property
    def target(self) -> Step:
        """The step whose result is the layer's output: what its units pass on, or the module's own
        output, as the layer was cut."""
        return self.steps[-1]

    @property
    def chain(self) -> tuple[Step, ...]:
        """The steps from the module's own output to the layer's, which treat each channel and
        position for itself."""
        return self.steps[self.steps.index(self.by_name[self.base]) + 1 :]

    @cached_property
    def reads(self) -> Mapping[str, int]:
        """How many steps read each value; the layer's output counts as read once more."""
        counts: dict[str, int] = {self.image: 0, self.target.name: 1}
        for step in self.steps:
            for name in step.inputs:
                counts[name] = counts.get(name, 0) + 1
        return counts

    @cached_property
    def folded(self) -> bool:
        """Whether channels or positions are folded into the batch anywhere: then one image at a
        time goes through."""
        return any(step.folded for step in self.steps)

    def shape(self, name: str) -> tuple[int, ...]:
        """Gives the shape of a step's result, or of the image, batch axis left out."""
        return self.image_shape if name == self.image else self.by_name[name].shape

    def dtype(self, name: str) -> torch.dtype:
        """Gives the type of a step's result, or of the image."""
        return self.image_dtype if name == self.image else self.by_name[name].dtype

    def is_differentiable(self, name: str) -> bool:
        """Says whether a gradient can be taken by a step's result, or by the image."""
        return name == self.image or self.by_name[name].differentiable

    def is_folded(self, name: str) -> bool:
        """Says whether a value is `Step.folded`; the image is not."""
        return name != self.image and self.by_name[name].folded

    def up_to(self, name: str) -> Network:
        """Cuts out the part that computes one of the steps; its sites are those of the whole."""
        needed = {name}
        for step in reversed(self.steps):
            if step.name in needed:
                needed.update(step.inputs)
        steps = tuple(step for step in self.steps if step.name in needed)
        by_name = {step.name: step for step in steps}
        whole = name == self.target.name
        base, after = (self.base, self.after) if whole else (name, "")
        return replace(self, steps=steps, by_name=by_name, base=base, after=after)

    def forward(
        self,
        images: Tensor,
        *,
        replaced: Replaced | None = None,
        computed: tuple[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Computes every step's result for a batch of images.

        Args:
            images: (batch, channels, height, width).
            replaced: what convolutions run with. Default: the model's weights.
            computed: the name of a step and its result, known already; the steps before it are
                left out. Everything that reads the image must go through that step. Default: none.
        """
        sizes = self.sizes.at(len(images), self.image)
        values: dict[str, Any] = {self.image: channels_last(images), **sizes}
        steps = self.steps
        if computed is not None:
            name, result = computed
            values[name] = result
            steps = steps[steps.index(self.by_name[name]) + 1 :]
        for step in steps:
            values[step.name] = step.run(values, (replaced or {}).get(step.name))
        for name in sizes:
            del values[name]
        return values

    def output(self, images: Tensor, seen: Callable[[Step, Tensor], None] | None = None) -> Tensor:
        """Computes the layer's output, (batch, channels, height, width), and frees every other
        value once it has been read.

        Args:
            images: (batch, channels, height, width).
            seen: is shown each step's result as it comes. Default: nothing is shown.
        """
        sizes = self.sizes.at(len(images), self.image)
        values: dict[str, Any] = {self.image: channels_last(images), **sizes}
        left = dict(self.reads)
        for step in self.steps:
            values[step.name] = step.run(values)
            if seen is not None:
                seen(step, values[step.name])
            for name in step.inputs:
                left[name] -= 1
                if not left[name]:
                    del values[name]
        result: Tensor = values[self.target.name]
        return result
