"""Which feature visualizations a unit is to have, and the circuits that they are made through."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from circuit_atlas.jobs.circuits.masks import keep_best
from circuit_atlas.jobs.spec.visualization import FeaturesSpec
from circuit_atlas.storage_schema.commit import Commit
from circuit_atlas.storage_schema.errors import SpecError
from circuit_atlas.storage_schema.header import AtlasHeader
from circuit_atlas.storage_schema.keys import UnitKey
from circuit_atlas.storage_schema.ranking import kernels_kept
from circuit_atlas.storage_schema.reader import Reader
from circuit_atlas.storage_schema.version import NETWORK_SINCE
from circuit_atlas.storage_schema.visualizations import FeatureCircuit, Sign, variant_name
from circuit_atlas.storage_schema.wording import nearest


@dataclass(frozen=True, eq=False)
class Variant:
    """What one visualization is made for.

    Attributes:
        key: the unit, or the channel of a convolution.
        sign: whether its response is to be large or small.
        circuit: what the visualization runs through; None for the whole network.
        mask: (kernels,) bool, the circuit's kernels.
    """

    key: UnitKey
    sign: Sign
    circuit: FeatureCircuit | None = None
    mask: NDArray[np.bool_] | None = None

    @property
    def name(self) -> str:
        """The name that the visualization is stored under, unlike others of the unit."""
        circuit = self.circuit
        if circuit is None:
            return variant_name(self.sign)
        return variant_name(self.sign, circuit.criterion, circuit.fraction, circuit.group)

    @property
    def factor(self) -> float:
        """What the response is multiplied by to be made large: 1 or -1."""
        return 1.0 if self.sign == "positive" else -1.0


def criterion_of(spec: FeaturesSpec, header: AtlasHeader) -> str:
    """Settles the criterion whose circuits are used; SpecError where the atlas lacks it, or a
    fraction."""
    criterion = spec.criterion or header.criteria[0]
    if criterion not in header.criteria:
        raise SpecError(
            f"features.criterion: the atlas has no {criterion!r}: "
            + nearest(criterion, header.criteria, what="criteria")
        )
    trained = None
    if spec.groups and criterion in header.grouped:
        trained = f"circuits of groups by {criterion!r} are stored as they were trained"
    asked = [(fraction, trained) for fraction in spec.fractions]
    for fraction, group_reason in [*asked, *([(spec.node_fraction, None)] if spec.nodes else [])]:
        reason = header.only_stored(criterion) or group_reason
        if reason is not None and _level_of(header, fraction) is None:
            stored = ", ".join(f"{kept:g}" for kept in header.fractions)
            raise SpecError(
                f"features: {reason}, and none keeps {fraction:g}: give some of {stored}"
            )
    return criterion


def variant_names(header: AtlasHeader, spec: FeaturesSpec, *, groups: int) -> tuple[str, ...]:
    """Names the visualizations of a unit with so many sub-feature groups that have circuits of
    their own, without a look at the circuits."""
    criterion = criterion_of(spec, header)
    return tuple(
        variant_name(sign) if fraction is None else variant_name(sign, criterion, fraction, group)
        for sign, fraction, group in _outline(spec, groups)
    )


def variants_of_unit(
    reader: Reader, commit: Commit, spec: FeaturesSpec, *, groups: Sequence[tuple[int, ...]]
) -> tuple[Variant, ...]:
    """Lists the variants of a unit that is done, in the order of `variant_names`.

    Args:
        reader: of the atlas.
        commit: the unit's.
        spec: which visualizations.
        groups: ids of the images of each sub-feature group, see `groups_of`.
    """
    criterion, ablation = criterion_of(spec, reader.header), reader.header.ablations[0]
    circuits: dict[tuple[float, int | None], tuple[FeatureCircuit, NDArray[np.bool_]]] = {}
    variants = []
    for sign, fraction, group in _outline(spec, len(groups)):
        if fraction is None:
            variants.append(Variant(commit.key, sign))
            continue
        if (fraction, group) not in circuits:
            images = None if group is None else groups[group]
            if group is not None and criterion in reader.header.grouped:
                mask = _trained_mask(reader, commit, criterion, fraction, group)
            else:
                mask = circuit_mask(reader, commit, criterion, fraction, images=images)
            kernels = int(mask.sum())
            circuit = FeatureCircuit(criterion, ablation, fraction, kernels, group, images)
            circuits[fraction, group] = circuit, mask
        variants.append(Variant(commit.key, sign, *circuits[fraction, group]))
    return tuple(variants)


def _outline(spec: FeaturesSpec, groups: int) -> Iterator[tuple[Sign, float | None, int | None]]:
    """Sign, kept fraction and group of each variant of a unit; no fraction for the network."""
    signs: tuple[Sign, ...] = ("positive", "negative") if spec.negative else ("positive",)
    for fraction in (None, *spec.fractions):
        yield from ((sign, fraction, None) for sign in signs)
        if fraction is not None:
            yield from (("positive", fraction, group) for group in range(groups))


def groups_of(reader: Reader, commit: Commit, spec: FeaturesSpec) -> tuple[tuple[int, ...], ...]:
    """Lists the image ids of each sub-feature group, from group 0 on.

    Empty where there is one group only, whose circuit is that of the unit, or where the criterion
    or an old atlas has none.
    """
    criterion = criterion_of(spec, reader.header)
    if not spec.groups or reader.header.schema < NETWORK_SINCE:
        return ()
    table = reader.groups(commit)
    rows = table.filter(pc.equal(table["criterion"], criterion))
    groups: dict[int, list[int]] = {}
    for image, group in zip(rows["image"].to_pylist(), rows["group"].to_pylist(), strict=True):
        groups.setdefault(group, []).append(image)
    if len(groups) < 2:
        return ()
    return tuple(tuple(sorted(images)) for _, images in sorted(groups.items()))


def circuit_mask(
    reader: Reader,
    commit: Commit,
    criterion: str,
    fraction: float,
    *,
    images: Sequence[int] | None = None,
) -> NDArray[np.bool_]:
    """Gives the circuit of a kept fraction: (kernels,) bool.

    It is the stored one, or else the kernels with the best stored score. With `images`, ids of some
    of the unit's top images, it is those with the best mean score over these images.
    """
    count = kernels_kept(fraction, commit.kernels)
    if images is not None:
        responses = reader.responses(commit)
        ranks = dict(
            zip(responses["image"].to_pylist(), responses["rank"].to_pylist(), strict=True)
        )
        rows = reader.image_scores(commit, criterion)[sorted(ranks[image] for image in images)]
        return keep_best(rows.astype(np.float64).mean(axis=0), count)
    level = _level_of(reader.header, fraction)
    if level is not None:
        return reader.mask(commit, criterion, level)
    return keep_best(reader.scores(commit, criterion)[0], count)


def _trained_mask(
    reader: Reader, commit: Commit, criterion: str, fraction: float, group: int
) -> NDArray[np.bool_]:
    """The circuit of a kept fraction that was trained for a group: (kernels,) bool."""
    level = _level_of(reader.header, fraction)
    if level is None:  # `criterion_of` has said so before
        raise SpecError(f"no circuits of groups keep {fraction:g}")
    mask: NDArray[np.bool_] = reader.group_levels(commit, criterion)[group] > level
    return mask


def nodes_of(
    reader: Reader, commits: Sequence[Commit], spec: FeaturesSpec
) -> dict[str, tuple[int, ...]]:
    """Finds the channels that lie in the circuits of `node_fraction` of some units of one layer:
    for each convolution, the output channels that a kernel with a score above zero leads into."""
    criterion = criterion_of(spec, reader.header)
    channels_of: dict[str, set[int]] = {}
    for commit in commits:
        layer = reader.layer(commit.layer)
        mask = circuit_mask(reader, commit, criterion, spec.node_fraction)
        scores = reader.scores(commit, criterion)
        level = _level_of(reader.header, spec.node_fraction) if len(scores) > 1 else 0
        positions = np.flatnonzero(mask & (scores[level or 0] > 0))
        ordinals, out, _ = layer.index.locate(positions, layer.unit(commit.unit).rows)
        for ordinal, channel in set(zip(ordinals.tolist(), out.tolist(), strict=True)):
            name = layer.index.convolutions[ordinal].name
            channels_of.setdefault(name, set()).add(channel)
    return {name: tuple(sorted(channels)) for name, channels in sorted(channels_of.items())}


def _level_of(header: AtlasHeader, fraction: float) -> int | None:
    """The sparsity level of a stored fraction, from 0 for the largest; None for any other."""
    for level, stored in enumerate(header.fractions):
        if math.isclose(stored, fraction, rel_tol=1e-9):
            return level
    return None
