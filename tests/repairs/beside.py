"""A build with repairs beside it, each at a moment that is drawn, and what comes of the atlas."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from circuit_atlas.service.commands.cli import main
from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.repair import repair
from circuit_atlas.storage_schema.verify import verify
from tests.repairs.atlases import finish, spec
from tests.repairs.damage import by_kind, damage
from tests.repairs.trial import Content, content

# So many requests each of these builds makes, and more where there is more to do.
_REQUESTS = 200


@dataclass(frozen=True)
class Beside:
    """What was done to an atlas as it was built on.

    Attributes:
        damages: what was done to its files, in words.
        requests: how many requests the build and the repairs made of the store.
        repairs: how many repairs had begun before the build had ended.
    """

    damages: tuple[str, ...]
    requests: int
    repairs: int


class _Moments:
    """Does something at each of some requests that anybody makes of a store, once."""

    def __init__(self, acts: Sequence[tuple[int, Callable[[], object]]]) -> None:
        self._acts = sorted(acts, key=lambda each: each[0])
        self._lock = threading.Lock()
        self.requests = self.done = 0

    def count(self) -> None:
        """Counts a request, and does what is due before it."""
        with self._lock:
            self.requests += 1
            due = []
            while self._acts and self._acts[0][0] <= self.requests:
                due.append(self._acts.pop(0)[1])
            self.done += len(due)
        for act in due:
            act()


@contextmanager
def at_requests(acts: Sequence[tuple[int, Callable[[], object]]]) -> Iterator[_Moments]:
    """Has something done before each of some requests, by their number; hints do not count."""
    moments = _Moments(acts)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("get", "create", "put", "list", "exists", "delete"):
            asked = getattr(Objects, name)

            def ask(
                objects: Objects, *given: Any, asked: Callable[..., Any] = asked, **named: Any
            ) -> Any:
                if objects.patience.limit_s:  # a hint is asked for without patience
                    moments.count()
                return asked(objects, *given, **named)

            patch.setattr(Objects, name, ask)
        yield moments


def trial_beside(
    folder: Path,
    pristine: Path,
    expected: Content,
    *,
    sampled: bool,
    seed: int,
    scratch: Path,
) -> Beside:
    """Damages a copy of an atlas at one or two files, and builds what is missing of it while one or
    two repairs run; then a last repair and build have nothing left to put right.

    Args:
        folder: of model, images and spec.
        pristine: the atlas.
        expected: its content.
        sampled: which of the two.
        seed: of what is drawn.
        scratch: where the copy goes, and is deleted.
    """
    drawn = random.Random(f"beside {seed}")
    shutil.copytree(pristine, scratch)
    try:
        files = by_kind(scratch)
        del files["header"]  # no build makes one
        for path in drawn.sample(files["commit record"], drawn.randrange(3)):
            (scratch / path).unlink()
        damages = [str(damage(scratch, files, drawn)) for _ in range(drawn.choice((1, 2)))]
        begun = [drawn.randrange(_REQUESTS) for _ in range(drawn.choice((1, 2)))]
        acts = [(at, lambda: repair(open_store(scratch))) for at in begun]
        with at_requests(acts) as moments:
            finish(spec(folder, scratch, sampled=sampled), pictures=True)
        done = moments.done
        assert main(["repair", str(scratch)]) == 0
        if done < len(acts) or any("visualization" in one for one in damages):
            finish(spec(folder, scratch, sampled=sampled), pictures=True)
        assert main(["compact", str(scratch)]) == 0
        found = content(scratch)
        assert found.keys() == expected.keys()
        wrong = [key for key in expected if found[key] != expected[key]]
        assert not wrong, f"differ: {wrong[:5]}"
        harmful = [finding for finding in verify(open_store(scratch)) if finding.harmful]
        assert not harmful, harmful
        assert not [e.path for e in open_store(scratch).list(layout.CLAIMS)]
        return Beside(tuple(damages), moments.requests, done)
    except BaseException as error:
        error.add_note(f"seed {seed}, sampled {sampled}: {damages}, repairs at {begun}")
        raise
    finally:
        shutil.rmtree(scratch)
