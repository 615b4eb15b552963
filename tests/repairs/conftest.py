"""Two small atlases, made once for all tests of this folder, and what is in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.repairs.atlases import make, prepared
from tests.repairs.trial import Content, content


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Model, images, `atlas-False` whose units have all images, and `atlas-True` whose units have
    images of their own."""
    folder = tmp_path_factory.mktemp("repairs")
    with prepared(folder):
        for sampled in (False, True):
            make(folder, folder / f"atlas-{sampled}", sampled=sampled)
        yield folder


@pytest.fixture(scope="package")
def expected(folder: Path) -> dict[bool, Content]:
    """What is in each."""
    return {sampled: content(folder / f"atlas-{sampled}") for sampled in (False, True)}
