"""Two small atlases, each made once for all tests of this folder that ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.repairs.atlases import make, prepared
from tests.repairs.trial import Content, content


@dataclass(frozen=True)
class Whole:
    """An undisturbed atlas."""

    location: Path
    content: Content


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Model and images of their specs."""
    folder = tmp_path_factory.mktemp("repairs")
    with prepared(folder):
        yield folder


@pytest.fixture(scope="package")
def whole(folder: Path) -> Callable[[bool], Whole]:
    """`whole(sampled)`: the atlas whose units have all images, or images of their own."""

    @cache
    def made(sampled: bool) -> Whole:
        location = folder / f"atlas-{sampled}"
        make(folder, location, sampled=sampled)
        return Whole(location, content(location))

    return made
