"""Planted networks of every kind of joint, small enough for the slow oracle."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tests.service.diagram.planted import Planted, conv


def _scored(planted: Planted, seed: int = 0) -> Planted:
    """Distinct random scores for its two units."""
    size = sum(c.size for c in planted.convolutions)
    rng = np.random.default_rng(seed)
    scores = {n: rng.permutation(size).astype(np.float32) + 1 for n in range(2)}
    return Planted(**{**planted.__dict__, "scores": scores})


def plain(seed: int = 0) -> Planted:
    """Three in a row, the second grouped, the last with one row a unit."""
    convolutions = (
        conv("a", 6, 3, 1),
        conv("b", 4, 3, 2, groups=2),
        conv("c", 3, 4, 3, one_row=True, kernel_size=(1, 1)),
    )
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 6, 0, 0, "alone"),
        (2, 0, 4, 1, 0, "alone"),
        (3, 0, 3, 2, 0, "alone"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=3), seed)


def fire(seed: int = 0) -> Planted:
    """One squeezes, two expand side by side, one reads both."""
    convolutions = (
        conv("squeeze", 3, 3, 1, kernel_size=(1, 1)),
        conv("one", 3, 3, 2, kernel_size=(1, 1)),
        conv("three", 4, 3, 2),
        conv("last", 2, 7, 3, one_row=True),
    )
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 3, 0, 0, "alone"),
        (2, 0, 3, 0, 0, "alone"),
        (3, 0, 3, 1, 0, "alone"),
        (3, 3, 4, 2, 0, "alone"),
        (4, 0, 2, 3, 0, "alone"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=2), seed)


def directed(name: str) -> Planted:
    """The same with a direction over its two channels, unit 2, and nothing else stored."""
    planted = fire()
    convolutions = (*planted.convolutions[:3], replace(planted.convolutions[3], one_row=False))
    size = sum(c.size for c in convolutions)
    return replace(
        planted,
        convolutions=convolutions,
        directions=((name, (1.0, -0.5)),),
        scores={2: np.arange(size, dtype=np.float32) + 1},
    )


def residual(seed: int = 0) -> Planted:
    """A stem and two blocks that are added to it; the unit is the last sum."""
    convolutions = (
        conv("stem", 4, 3, 1),
        conv("block1.a", 3, 4, 2),
        conv("block1.b", 4, 3, 3),
        conv("block2.a", 3, 4, 4),
        conv("block2.b", 4, 3, 5),
    )
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 4, 0, 0, "alone"),
        (2, 0, 3, 1, 0, "alone"),
        (3, 0, 4, 0, 0, "sum"),
        (3, 0, 4, 2, 0, "sum"),
        (4, 0, 3, 3, 0, "alone"),
        (5, 0, 4, 0, 0, "sum"),
        (5, 0, 4, 2, 0, "sum"),
        (5, 0, 4, 4, 0, "sum"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=4), seed)


def gate(seed: int = 0) -> Planted:
    """A map times a gate of its own channels, as in squeeze-and-excitation."""
    convolutions = (
        conv("map", 4, 3, 1),
        conv("narrow", 2, 4, 2, kernel_size=(1, 1)),
        conv("gate", 4, 2, 3, kernel_size=(1, 1)),
        conv("after", 2, 4, 4, one_row=True),
    )
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 4, 0, 0, "alone"),
        (2, 0, 2, 1, 0, "alone"),
        (3, 0, 4, 0, 0, "product"),
        (3, 0, 4, 2, 0, "product"),
        (4, 0, 2, 3, 0, "alone"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=2), seed)


def image_skip(seed: int = 0) -> Planted:
    """The last convolution reads the first one's output and, beside it, the image."""
    convolutions = (conv("first", 3, 3, 1), conv("last", 2, 6, 2, one_row=True))
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 3, 0, 0, "alone"),
        (1, 3, 3, -1, 0, "alone"),
        (2, 0, 2, 1, 0, "alone"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=2), seed)


def mixed(seed: int = 0) -> Planted:
    """A linear operation over all channels lies between two convolutions."""
    convolutions = (conv("before", 4, 3, 1), conv("behind", 2, 5, 2, one_row=True))
    stretches = (
        (0, 0, 3, -1, 0, "alone"),
        (1, 0, 5, 0, 0, "mixed"),
        (2, 0, 2, 1, 0, "alone"),
    )
    return _scored(Planted(convolutions, stretches, {}, channels=2), seed)


ALL = {f.__name__: f for f in (plain, fire, residual, gate, image_skip, mixed)}


def large() -> Planted:
    """21,696 kernels."""
    convolutions = (
        conv("a", 128, 3, 1),
        conv("b", 80, 128, 2, kernel_size=(1, 1)),
        conv("c", 124, 80, 3),
        conv("d", 10, 124, 4, one_row=True),
    )
    widths = [3, 128, 80, 124, 10]
    stretches = tuple((n, 0, width, n - 1, 0, "alone") for n, width in enumerate(widths))
    size = sum(c.size for c in convolutions)
    scores = np.random.default_rng(0).pareto(1.5, size).astype(np.float32) + 0.01
    return Planted(convolutions, stretches, {0: scores}, channels=10)


def deep(count: int = 24) -> Planted:
    """Many columns with long names, one after the other, and the unit at the end."""
    convolutions = tuple(
        conv(f"blocks.{n}.branch.convolution{n}", 2, 3 if n == 0 else 2, n + 1)
        for n in range(count - 1)
    )
    convolutions += (conv("head.classifier", 2, 2, count, one_row=True),)
    stretches = ((0, 0, 3, -1, 0, "alone"),)
    stretches += tuple((n + 1, 0, 2, n, 0, "alone") for n in range(count))
    return _scored(Planted(convolutions, stretches, {}, channels=2))


def mobile(count: int = 24) -> Planted:
    """As many columns, named as timm names those of an EfficientNet."""
    parts = ("conv_pw", "conv_dw", "conv_pwl")
    names = ["conv_stem"]
    names += [f"blocks.{n // 6}.{n // 3 % 2}.{parts[n % 3]}" for n in range(count - 2)]
    names += ["conv_head"]
    planted = deep(count)
    convolutions = tuple(
        replace(convolution, name=name, weight=f"{name}.weight")
        for convolution, name in zip(planted.convolutions, names, strict=True)
    )
    return replace(planted, convolutions=convolutions)
