"""One file damaged, an atlas asked: what `verify` found, and what its readers were told."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from circuit_atlas.storage_schema import layout
from circuit_atlas.storage_schema.errors import NotAnAtlasError, SchemaError
from circuit_atlas.storage_schema.opening import open_store
from circuit_atlas.storage_schema.verify import Finding, verify
from tests.damage.answers import FAILED, HEARTBEATS, Ask, answers, questions, refused, sources
from tests.damage.damages import DAMAGES, Damage, delete
from tests.damage.everything import Everything
from tests.damage.kinds import ABSENT, kind_of, template_of
from tests.damage.watched import Watched


@dataclass(frozen=True)
class Trial:
    """Says what came of one damage.

    Attributes:
        kind: of file.
        path: of the file.
        damage: its name.
        found: whether `verify` names the file among what is harmful.
        same: questions that were answered as before.
        errors: questions that were answered by an error of ours.
        absent: questions that were answered as if the file had never been written, where that is
            a state of an atlas.
        wrong: questions that were answered otherwise.
    """

    kind: str
    path: str
    damage: str
    found: bool
    same: int
    errors: int
    absent: int
    wrong: tuple[str, ...]


class Damaged:
    """An atlas of which one file at a time is damaged, and put right again."""

    def __init__(
        self, atlas: Everything, *, location: str | None = None, of: str | None = None
    ) -> None:
        """Take what it answers undisturbed.

        Args:
            atlas: lies in a folder.
            location: where it is asked. Default: that folder.
            of: ask the questions that begin so alone. Default: all.
        """
        self.atlas = atlas
        self._folder = atlas.folder
        self._location = location or str(atlas.folder)
        self._left = atlas.left
        self._files = {
            str(path.relative_to(self._folder)): path.read_bytes()
            for path in sorted(self._folder.rglob("*"))
            if path.is_file()
        }
        self._times = {path: (self._folder / path).stat().st_mtime_ns for path in self._files}
        self._unnamed = frozenset(f.path for f in verify(open_store(self._folder)))
        self._questions: dict[str, Ask] = {
            name: ask for name, ask in questions().items() if name.startswith(of or "")
        }
        self._answers = answers(self._location, questions=self._questions)

    @property
    def answers(self) -> dict[str, object]:
        """Return what the undisturbed atlas answers."""
        return self._answers

    def kinds(self) -> dict[str, list[str]]:
        """Return the files that count, by kind: those that no record names are no damage's."""
        found: dict[str, list[str]] = {}
        for path in self._files:
            if path not in self._unnamed or layout.is_heartbeat(path):
                found.setdefault(kind_of(path), []).append(path)
        return found

    def trials(self, kind: str, *, seed: int, damage: Damage | None = None) -> Iterator[Trial]:
        """Damage files of a kind, 20 times, or once by each of some damages."""
        chosen = (
            [one for one, times in DAMAGES for _ in range(times)] if damage is None else [damage]
        )
        for number, one in enumerate(chosen):
            yield self.trial(kind, one, random.Random(f"{seed} {kind} {number}"))

    def trial(
        self, kind: str, damage: Damage, rng: random.Random, *, most: int | None = None
    ) -> Trial:
        """Damage one file of a kind, ask every question whose answer depends on it, and put it
        right; `most`: ask so many of them at most, those that read it first."""
        path = rng.choice(self.kinds()[kind])
        data = self._files[path]
        altered = damage(data, rng, self._others(kind, path))
        while altered == data:
            altered = damage(data, rng, self._others(kind, path))
        chosen = self._chosen(path, damage, rng, most)
        self._write(path, altered)
        try:
            found = any(f.harmful and f.path == path for f in self._findings())
            told = answers(self._location, questions=chosen)
        finally:
            self._write(path, data)
        same = errors = absent = 0
        wrong = []
        for name, answer in told.items():
            if answer == self._answers[name]:
                same += 1
            elif answer == FAILED or (refused(answer) and not refused(self._answers[name])):
                errors += 1
            elif altered is None and template_of(kind) in ABSENT:
                absent += 1
            elif name == HEARTBEATS and all(beat in self._answers[name] for beat in answer):
                absent += 1  # one that cannot be read is left out
            else:
                wrong.append(name)
        return Trial(kind, path, damage.__name__, found, same, errors, absent, tuple(wrong))

    def _chosen(
        self, path: str, damage: Damage, rng: random.Random, most: int | None
    ) -> dict[str, Ask]:
        if most is None and damage is delete:
            return self._questions  # with its last file a folder may go, and its folder
        sources = self._sources.items()
        read = [name for name, source in sources if source.reads(path)]
        listed = [name for name, source in sources if source.lists(path) and name not in read]
        if most is None:
            return {name: self._questions[name] for name in read + listed}
        rng.shuffle(read)
        rng.shuffle(listed)
        return {name: self._questions[name] for name in (read + listed)[:most]}

    @cached_property
    def _sources(self) -> dict[str, Watched]:
        return sources(str(self._folder), questions=self._questions)

    def _others(self, kind: str, path: str) -> Sequence[bytes]:
        """What may come to lie in its place: others of the kind, what another attempt at the same
        left, or where there is none of either, any other document."""
        data = self._files[path]
        paths = [one for one in self.kinds()[kind] if one != path]
        paths += [self._left[path]] if path in self._left else []
        others = [self._files[one] for one in paths if self._files[one] != data]
        return others or [
            self._files[one]
            for one in self._files
            if Path(one).suffix == Path(path).suffix and self._files[one] != data
        ]

    def _findings(self) -> tuple[Finding, ...]:
        try:
            return verify(open_store(self._folder))
        except NotAnAtlasError as error:
            return (Finding("missing", layout.HEADER, str(error)),)
        except SchemaError as error:
            path = next(one for one in self._files if one in str(error))
            return (Finding("altered", path, str(error)),)

    def _write(self, path: str, data: bytes | None) -> None:
        """Alter a file as a disk does that forgets: it seems to be as old as before."""
        file = self._folder / path
        if data is None:
            file.unlink()
            return
        file.write_bytes(data)
        os.utime(file, ns=(self._times[path], self._times[path]))
