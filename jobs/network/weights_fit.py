"""Which tensors of a file are a network's, whatever stands before their names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from circuit_atlas.jobs.network.weights_file import StoredTensors
from circuit_atlas.storage_schema.errors import ModelError
from circuit_atlas.storage_schema.module_paths import without_wrappers
from circuit_atlas.storage_schema.wording import listed

# What a checkpoint calls the weights themselves, beside averages over training steps or a teacher.
_USUAL = ("state_dict", "model_state_dict", "model", "net", "network")
_AVERAGED = re.compile(r"(^|[._])(ema|swa|avg|averaged?|shadow|teacher|momentum)([._]|\d|$)")
# Names in torchvision's files of DenseNets, from when a module's name could have a dot in it:
# torchvision.models.densenet._load_state_dict.
_DENSENET = re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)")


@dataclass(frozen=True)
class Naming:
    """How the tensors of a file are named, against those of a network.

    Attributes:
        dropped: what stands before the names of the network's tensors in the file; the tensors of
            the file without it are not the network's.
        added: what stands before the network's names, and not in the file.
        sources: the file's name of each of the network's tensors that fits, in name and shape.
        reshaped: the same of each that has the name and another shape.
        others: the file's names after `dropped` that are no names of the network's.
        rivals: other tables of the file, or beginnings of names in it, that fit as well.
    """

    dropped: str
    added: str
    sources: Mapping[str, str]
    reshaped: Mapping[str, str]
    others: tuple[str, ...]
    rivals: tuple[str, ...] = ()

    def rank(self) -> tuple[int, int, int, int]:
        """Orders namings from the worst to the best."""
        exact = sum(
            source == self.dropped + name.removeprefix(self.added)
            for name, source in self.sources.items()
        )
        return len(self.sources), -len(self.others), exact, -len(self.dropped)

    def words(self, stored: StoredTensors) -> list[str]:
        """Says what is unlike the state dict of the network itself, a clause each."""
        clauses = []
        table = stored.table(self.dropped.removesuffix("."))
        prefix = self.dropped.removeprefix(f"{table}." if table else "")
        if table:
            clauses.append(f"those under {table!r}")
        if prefix:
            clauses.append(f"without {prefix!r} before their names")
        if self.added:
            clauses.append(f"with {self.added!r} before their names")
        renamed = [
            (source.removeprefix(self.dropped), name)
            for name, source in self.sources.items()
            if source != self.dropped + name.removeprefix(self.added)
        ]
        if renamed:
            more = f" and {len(renamed) - 1} more" if len(renamed) > 1 else ""
            clauses.append(f"{renamed[0][0]!r} as {renamed[0][1]!r}{more}")
        if self.rivals:
            clauses.append(f"not those under {listed(self.rivals)}, which fit as well")
        return clauses


def best_naming(stored: StoredTensors, needed: Mapping[str, Tensor]) -> Naming:
    """Finds how a file names a network's tensors: the way in which the most of them fit.

    Tried are the names in each table of the file, without each beginning that they have, without
    the names of wrappers such as `module`, and behind the path of each module of the network.

    Args:
        stored: the file.
        needed: the network's tensors by name.

    Raises:
        ModelError: two different sets of the file's tensors fit alike, and no name tells which are
            meant.
    """
    names = _Names(needed)
    groups: dict[str, list[str]] = {}
    for source in stored.tensors:
        for prefix in _prefixes(source):
            groups.setdefault(prefix, []).append(source)
    tried = [_naming(stored, names, keys, dropped=prefix) for prefix, keys in groups.items()]
    best = max(tried, key=Naming.rank)
    if len(best.sources) < len(needed):
        behind = [
            naming
            for prefix, keys in groups.items()
            if prefix.removesuffix(".") in stored.tables or not prefix
            for naming in _behind(stored, names, keys, prefix, len(best.sources))
        ]
        if behind:
            tried, best = behind, max(behind, key=Naming.rank)
    return _chosen(stored, best, tried)


class _Names:
    """The network's tensors by name, and by name without wrappers and peculiarities."""

    def __init__(self, needed: Mapping[str, Tensor]) -> None:
        self.needed = needed
        self.plain: dict[str, str] = {}
        for name in needed:
            self.plain.setdefault(_plain(name), name)
        below = Counter(prefix for name in needed for prefix in _prefixes(name) if prefix)
        self.paths: Mapping[str, int] = below

    def match(self, name: str) -> str | None:
        return name if name in self.needed else self.plain.get(_plain(name))


def _naming(
    stored: StoredTensors, names: _Names, keys: Sequence[str], *, dropped: str, added: str = ""
) -> Naming:
    sources: dict[str, str] = {}
    reshaped: dict[str, str] = {}
    others = []
    for key in keys:
        given = added + key[len(dropped) :]
        name = names.match(given)
        if name is None:
            others.append(key[len(dropped) :])
            continue
        into = sources if fits(stored.tensors[key], names.needed[name]) else reshaped
        if name == given or name not in into:
            into[name] = key
    return Naming(dropped, added, sources, reshaped, tuple(others))


def _behind(
    stored: StoredTensors, names: _Names, keys: Sequence[str], dropped: str, least: int
) -> Iterator[Naming]:
    """Namings of a network that a module of the network is, where most of the file's tensors fit,
    and more than `least`."""
    if len(keys) <= least:
        return
    most = max(least, len(keys) // 2)
    for path in sorted(path for path, tensors in names.paths.items() if tensors > most):
        naming = _naming(stored, names, keys, dropped=dropped, added=path)
        if len(naming.sources) > most:
            yield naming


def _chosen(stored: StoredTensors, best: Naming, tried: Sequence[Naming]) -> Naming:
    """The best naming, or that of its rivals which their tables' names speak for."""
    rivals = {
        frozenset(naming.sources.values()): naming
        for naming in sorted(tried, key=Naming.rank)
        if naming.rank()[:2] == best.rank()[:2] and naming.sources
    }
    if len(rivals) <= 1:
        return best
    several = list(rivals.values())
    plain = [naming for naming in several if not _AVERAGED.search(naming.dropped)] or several
    usual = [naming for naming in plain if naming.dropped.split(".")[-2:-1][0] in _USUAL] or plain
    called = [naming.dropped.removesuffix(".") or naming.added for naming in several]
    if len(usual) > 1:
        raise ModelError(
            f"the weights {stored.file!r} hold several sets of tensors that fit: {listed(called)}; "
            "save the state dict that you mean alone"
        )
    others = tuple(n for n, naming in zip(called, several, strict=True) if naming is not usual[0])
    return replace(usual[0], rivals=others)


def fits(stored: Tensor, needed: Tensor) -> bool:
    """Tells whether torch copies a stored tensor into one of the network."""
    # A single number was stored as a list of one in former versions, and torch still takes it.
    return stored.shape == needed.shape or (needed.dim() == 0 and stored.shape == (1,))


def _plain(name: str) -> str:
    return _DENSENET.sub(r"\1\2", without_wrappers(name))


def _prefixes(name: str) -> Iterator[str]:
    """The beginnings of a dotted name, from the empty one on: "", "a.", "a.b."."""
    yield ""
    for end in re.finditer(r"\.", name):
        yield name[: end.end()]
