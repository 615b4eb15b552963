"""A circuit: a set of kernels of one model, with set algebra, counts and export."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from circuit_atlas.service.circuit import measured
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.kernel_table import kernel_table
from circuit_atlas.service.circuit.origin import Origin, merged
from circuit_atlas.service.circuit.saved_circuit import to_json
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.circuit.selection import select
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import Convolution, KernelIndex
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from circuit_atlas.service.compute.evaluate import Evaluation
    from circuit_atlas.service.compute.extracted_circuit import ExtractedCircuit
    from circuit_atlas.service.diagram.drawing import Diagram

    Ids = NDArray[np.int64]

_TITLE = 72


@dataclass(frozen=True, eq=False, repr=False)
class Circuit:
    """Is a set of convolution kernels, each named by convolution, output channel and input channel.

    Circuits of one model combine with `|`, `&` and `-` whichever units and layers they are of. A
    combined circuit keeps the scores and positions of its left side.

    Attributes:
        title: what it is a circuit of, in a few words.
        model: the model's reference.
        weights_sha256: fingerprint of the model's weights; circuits of other weights do not mix.
        index: the convolutions that `ids` count over.
        ids: the circuit's kernels, as `KernelIndex.full_ids` names them, ascending.
        reachable: the same for all kernels that the circuit was chosen from.
        scores: float32, one a kernel; NaN where the kernel came from the right of a union.
        positions: on the unit's kernel axis, one a kernel; -1 where the score is NaN so.
        origins: the units it was chosen for, and how; several where circuits were combined.
    """

    title: str
    model: str
    weights_sha256: str
    index: KernelIndex
    ids: Ids
    reachable: Ids
    scores: NDArray[np.float32]
    positions: Ids
    origins: tuple[Origin, ...] = ()

    def __len__(self) -> int:
        """Kernels in the circuit."""
        return len(self.ids)

    def __repr__(self) -> str:
        title = self.title if len(self.title) <= _TITLE else self.title[: _TITLE - 3] + "..."
        return f"<Circuit {title}: {len(self):,} of {len(self.reachable):,} kernels>"

    def _repr_html_(self) -> str:
        return html_table(self.by_convolution().to_arrow(), caption=repr(self)[1:-1])

    def __eq__(self, other: object) -> bool:
        """Whether the other is a circuit of the same kernels of the same weights."""
        if not isinstance(other, Circuit):
            return NotImplemented
        if self.weights_sha256 != other.weights_sha256 or len(self) != len(other):
            return False
        left, right = aligned(self, other)
        return bool(np.array_equal(left.ids, right.ids))

    def __hash__(self) -> int:
        return hash((self.weights_sha256, len(self)))

    def __contains__(self, kernel: Any) -> bool:
        """Whether (convolution, output channel, input channel) is in the circuit."""
        try:
            name, out, channel = kernel
            out, channel = operator.index(out), operator.index(channel)
        except (TypeError, ValueError):
            return False  # as of any container that holds nothing of the kind
        for ordinal, convolution in enumerate(self.index.convolutions):
            if convolution.name == name:
                group = out // (convolution.out_channels // convolution.groups)
                within = channel - group * convolution.in_channels
                if 0 <= out < convolution.out_channels and 0 <= within < convolution.in_channels:
                    start = self.index.full_offsets[ordinal]
                    sought = start + out * convolution.in_channels + within
                    at = np.searchsorted(self.ids, sought)
                    return bool(at < len(self) and self.ids[at] == sought)
        return False

    def __or__(self, other: Circuit) -> Circuit:
        return self.union(other)

    def __and__(self, other: Circuit) -> Circuit:
        return self.intersection(other)

    def __sub__(self, other: Circuit) -> Circuit:
        return self.difference(other)

    def union(self, other: Circuit) -> Circuit:
        """Take the kernels of either. QueryError where the other is of another model."""
        left, right = aligned(self, other)
        more = np.setdiff1d(right.ids, left.ids, assume_unique=True)
        ids = np.concatenate([left.ids, more])
        order = np.argsort(ids, kind="stable")
        none = np.full(len(more), np.nan, np.float32)
        return left._combined(
            right,
            "|",
            ids[order],
            np.concatenate([left.scores, none])[order],
            np.concatenate([left.positions, np.full(len(more), -1, np.int64)])[order],
        )

    def intersection(self, other: Circuit) -> Circuit:
        """Take the kernels of both. QueryError where the other is of another model."""
        left, right = aligned(self, other)
        keep = np.isin(left.ids, right.ids, assume_unique=True)
        return left._combined(right, "&", left.ids[keep], left.scores[keep], left.positions[keep])

    def difference(self, other: Circuit) -> Circuit:
        """Take the kernels of this one that the other lacks. QueryError where it is of another
        model."""
        left, right = aligned(self, other)
        keep = ~np.isin(left.ids, right.ids, assume_unique=True)
        return left._combined(right, "-", left.ids[keep], left.scores[keep], left.positions[keep])

    def contains(self, other: Circuit) -> bool:
        """Tell whether every kernel of the other is in this one."""
        left, right = aligned(self, other)
        return bool(np.isin(right.ids, left.ids, assume_unique=True).all())

    def iou(self, other: Circuit) -> float:
        """Divide the kernels of both by the kernels of either, 0 to 1; NaN where both are empty.

        The other may be of other weights of the same network, such as another checkpoint.
        """
        left, right = of_one_architecture(self, other)
        both = len(np.intersect1d(left.ids, right.ids, assume_unique=True))
        either = len(left) + len(right) - both
        return both / either if either else float("nan")

    def iou_by_convolution(self, other: Circuit) -> AtlasTable:
        """Do the same for each convolution: convolution; shared, kernels of both;
        either, kernels of either; iou (null where
        neither circuit has a kernel there)."""
        left, right = of_one_architecture(self, other)
        both = left._counts(np.intersect1d(left.ids, right.ids, assume_unique=True))
        either = left._counts(left.ids) + left._counts(right.ids) - both
        return AtlasTable(
            pa.table(
                {
                    "convolution": [c.name for c in left.index.convolutions],
                    "shared": pa.array(both, pa.int32()),
                    "either": pa.array(either, pa.int32()),
                    "iou": pa.array(
                        [int(b) / int(e) if e else None for b, e in zip(both, either, strict=True)],
                        pa.float64(),
                    ),
                }
            )
        )

    def kernels(self) -> AtlasTable:
        """Return one row for each kernel, in the order of the kernel axis.

        Columns: convolution; out_channel; in_channel, over all channels of the convolution's input;
        score and position on the unit's kernel axis; contribution, what it
        contributes to the response with its sign, the mean of activation x gradient over scoring
        images and positions; weight_norm, the square root of the sum of the squares of its
        weights; sign, 1 where it excites the unit, -1 where it inhibits it, 0 where it does
        neither. Score, position, contribution and sign are null where a union took the kernel from
        its right side; the last three in an atlas that is too old to have them.
        """
        return AtlasTable(kernel_table(self))

    def masks(self) -> dict[str, NDArray[np.bool_]]:
        """Return what is kept of each convolution, by the parameter that holds its weight.

        ```python
        for name, kept in circuit.masks().items():
            state[name] *= kept[:, :, None, None]
        ```

        Returns:
            True where the kernel is in the circuit. Shape of each: (out channels, in channels of a
            group), the first two of the weight's.

        Raises:
            QueryError: a convolution computes its weight, or two share one parameter.
        """
        masks: dict[str, NDArray[np.bool_]] = {}
        for convolution, grid in zip(self.index.convolutions, self.grids(), strict=True):
            if convolution.weight is None:
                raise QueryError(
                    f"the weight of {convolution.name!r} is computed anew at each call, so no "
                    "parameter holds its kernels"
                )
            if convolution.weight in masks:
                raise QueryError(
                    f"{convolution.name!r} shares its weight {convolution.weight!r} with another "
                    "convolution, so one mask cannot tell what is kept of both"
                )
            masks[convolution.weight] = grid
        return masks

    def by_convolution(self) -> AtlasTable:
        """Return one row for each convolution: convolution, depth, kernels in the circuit, and
        reachable_kernels, those that can reach the unit."""
        return AtlasTable(
            pa.table(
                {
                    "convolution": [c.name for c in self.index.convolutions],
                    "depth": pa.array([c.depth for c in self.index.convolutions], pa.int32()),
                    "kernels": pa.array(self._counts(self.ids), pa.int32()),
                    "reachable_kernels": pa.array(self._counts(self.reachable), pa.int32()),
                }
            )
        )

    def diagram(
        self,
        *,
        against: Circuit | None = None,
        side: Literal["left", "right"] | None = None,
        edges: int = 200,
        share: float = 1.0,
        node_images: bool = True,
        features: bool = True,
    ) -> Diagram:
        """Draw the circuit: channels in columns by depth, kernels as lines between them.

        Only kernels on a path from the image to the unit are drawn. It shows by itself in a
        notebook; `.save("x.svg")`, `.html` or `.png` writes a file, `.figure(width_mm=174)` one
        for print.

        Args:
            against: another circuit of the same model, drawn over this one: what both share, and
                what one alone has. Of another atlas it comes without visualizations, and without
                crops where the images are others.
            side: draw one of the two alone, this one (left) or the other (right), where the two
                over each other would lie: two drawings to be held side by side.
            edges: how many kernels to draw at most, 1 to 20,000: whole paths from the image to
                the unit, those that carry the most of its response.
            share: of the response, above 0 to 1: no more kernels than it takes to carry that much
                of it. Default: 1, so as many as may be drawn.
            node_images: with crops of the images where each channel is largest.
            features: with feature visualizations, of channels that have any.

        Raises:
            QueryError: the other is of another model; the atlas is an old one, without wiring;
                this circuit was not chosen by `Unit.circuit`; or a number is out of range.
        """
        from circuit_atlas.service.diagram.draw import Asked, diagram

        asked = Asked(edges, share, side, node_images, features)
        return diagram(self, against=against, asked=asked)

    def apply_to(self, model: nn.Module) -> nn.Module:
        """Copy a torch model so that it computes with this circuit alone.

        In the copy, every kernel of every convolution of `index` that is not in the circuit is
        zero; biases and all other modules stay. `model` is left as it is.

        Raises:
            QueryError: torch is not installed, the model lacks one of the convolutions or has it
                in another shape, or one of them computes its weight.
        """
        from circuit_atlas.service.circuit.ablation import keep_only

        return keep_only(model, self.index.convolutions, self.grids())

    def extract(
        self, model: nn.Module, *, ablation: str = "zero", images: Tensor | None = None
    ) -> ExtractedCircuit:
        """Build a small network that computes the unit's output in this circuit, and nothing else.

        It holds the channels that the circuit needs: those that nothing kept reads are left out,
        and those that are the same for every image become constants, at the borders of padded
        convolutions too. It gives what the masked network does, see `apply_to`, but for rounding;
        `.receipt` says how far off it is, and what it costs. `.save("x.pt2")` and `.save("x.onnx")`
        write it to a file. `model` is left as it is.

        Args:
            model: the model that the atlas was built from, or that the circuit was found in, in
                evaluation mode.
            ablation: what dropped kernels are: `zero`, or `mean`, each its mean over `images`.
            images: (images, channels, height, width), preprocessed as the model wants them: what
                the receipt's difference and times are measured on, and for mean ablation the
                scoring images. Default: noise.

        Returns:
            A `torch.nn.Module`: images (batch, channels, height, width) -> the unit's maps (batch,
            map height, map width), on the model's device.

        Raises:
            QueryError: torch is not installed, the circuit is of several units or of two
                atlases that differ in `activation`, the model is not the one that it is of, or
                mean ablation lacks its images.
            ModelError: the model is in training mode, or cannot be traced.
            ImageError: the images are not of the size that the atlas was built on, or not finite.
            NonFiniteError: the circuit gives NaN or infinity on the images.
        """
        from circuit_atlas.service.circuit.ablation import require_torch

        require_torch("a circuit is extracted from")
        from circuit_atlas.service.compute.extract import extract

        return extract(self, model, ablation=ablation, images=images)

    def evaluate(
        self, model: nn.Module, images: Tensor, *, ablation: str | None = None
    ) -> Evaluation:
        """Measure how well this circuit preserves the unit's response on any images.

        ```python
        found = circuit.evaluate(atlas.load_model(), atlas.image_tensor([0, 3, 5]))
        found.pearson, found.pearson_images, found.firing
        ```

        Unlike `faithfulness`, which is looked up, it computes: of any circuit, combinations of
        circuits of one unit among them. `model` is left as it is.

        Args:
            model: the model that the atlas was built from, or that the circuit was found in, in
                evaluation mode.
            images: (images, channels, height, width), preprocessed as the model wants them.
            ablation: what dropped kernels are: `zero`, or `mean`, each its mean over the scoring
                images of the atlas. One that the atlas was built with. Default: its first.

        Returns:
            r, r of the response, the share of positions where it fires, the response to each image
            and, with zero ablation, the class scores, each in the circuit and in the whole network.

        Raises:
            QueryError: torch is not installed, the circuit is of several units, the model is not
                the one that it is of, no such ablation, or the atlas is too old to have the images
                that mean ablation needs.
            ModelError: the model is in training mode, or cannot be traced.
            ImageError: the images are not of the size that the atlas was built on, or not finite.
            CorruptError: the atlas' images, which mean ablation needs, are missing or altered.
            NonFiniteError: the unit gives NaN or infinity on the images.
        """
        from circuit_atlas.service.circuit.ablation import require_torch

        require_torch("a circuit is evaluated with")
        from circuit_atlas.service.compute.evaluate import evaluate

        return evaluate(self, model, images, ablation=ablation)

    def save(self, path: str | Path) -> Path:
        """Write the circuit into a JSON file, whole or not at all: its kernels with their scores,
        and what it was chosen for. `Atlas.load_circuit` reads it, as it does what the map of a
        unit's page saves.

        Returns:
            The path, `~` put in full.

        Raises:
            QueryError: it is no path of a `.json` file.
            WriteError: it cannot be written.
        """
        target = path_of(path)
        if target.suffix.lower() != ".json":
            raise QueryError(f"a circuit is saved as JSON: end {target.name!r} with .json")
        write_whole(target, to_json(self))
        return target

    def faithfulness(self) -> AtlasTable:
        """Tell how well this circuit preserves the unit's response, one row an ablation and split.

        Columns as of `Unit.faithfulness`, among them split (scoring: the images that the kernels
        were scored on; held_out: the others) and pearson, the correlation of the circuit's response
        with the whole network's over all positions of the split's images.

        Raises:
            QueryError: it was not measured: the circuit keeps another fraction than those stored,
                was chosen for single images or is a combination.
        """
        return AtlasTable(measured.faithfulness(self._origin(), self.positions))

    def image_scores(self) -> AtlasTable:
        """Return the scores of the circuit's kernels for each of the unit's top images, one row an
        image.

        Columns: rank, image (its id), response, and scores, a list with one number a kernel in the
        order of `kernels()`.

        Raises:
            QueryError: the criterion has no scores of single images, or the circuit is a
                combination.
        """
        return AtlasTable(measured.image_scores(self._origin(), self.positions))

    def for_images(self, images: Sequence[int]) -> Circuit:
        """Return the circuit of as many kernels that the mean of some images' scores ranks best.

        Args:
            images: ids of some of the unit's top images, see `image_scores`; each counts once.

        Raises:
            QueryError: no scores of those images, or the circuit is a combination.
        """
        origin = self._origin()
        picked = select(
            origin.reader,
            origin.commit,
            origin.criterion,
            keep=None,
            kernels=len(self),
            images=images,
        )
        ids = self.index.full_ids(origin.unit.rows)
        return replace(
            self,
            title=f"{origin.name} {origin.criterion} of images {listed(picked.images)}",
            ids=ids[picked.positions],
            scores=picked.scores,
            positions=picked.positions,
            origins=(replace(origin, images=picked.images),),
        )

    def _origin(self) -> Origin:
        """The one unit that the circuit was chosen for; QueryError where there is not one."""
        if len(self.origins) != 1 or not self.origins[0].alone:
            raise QueryError(
                f"{self.title} was not chosen for one unit: ask a circuit as `Unit.circuit` or "
                "`find_circuit` gives it"
            )
        return self.origins[0]

    @cached_property
    def located(self) -> tuple[Ids, Ids, Ids]:
        """Locate each kernel: convolution ordinal, output channel and input channel."""
        return _whole(self.index).locate(self.ids, ())

    def grids(self) -> tuple[NDArray[np.bool_], ...]:
        """Return what is kept of each convolution of `index`. Shape of each: (out channels, in
        channels of a group)."""
        mask = np.zeros(self.index.full_offsets[-1], dtype=np.bool_)
        mask[self.ids] = True
        pieces = np.split(mask, self.index.full_offsets[1:-1])
        return tuple(
            piece.reshape(c.out_channels, c.in_channels)
            for piece, c in zip(pieces, self.index.convolutions, strict=True)
        )

    def _counts(self, ids: Ids) -> Ids:
        """How many of some kernels lie in each convolution."""
        return np.diff(np.searchsorted(ids, self.index.full_offsets)).astype(np.int64)

    def _combined(
        self,
        right: Circuit,
        sign: str,
        ids: Ids,
        scores: NDArray[np.float32],
        positions: Ids,
    ) -> Circuit:
        return Circuit(
            f"({self.title} {sign} {right.title})",
            self.model,
            self.weights_sha256,
            self.index,
            ids,
            _either(self.reachable, right.reachable),
            scores,
            positions,
            merged(self.origins, right.origins),
        )

    def _on(self, index: KernelIndex) -> Circuit:
        """The same circuit, counted over an index that holds all its convolutions."""
        if index == self.index:
            return self
        start = {c.name: s for c, s in zip(index.convolutions, index.full_offsets, strict=False)}
        offsets = np.asarray(self.index.full_offsets[:-1], np.int64)
        shift = np.asarray([start[c.name] for c in self.index.convolutions], np.int64) - offsets

        def moved(ids: Ids) -> Ids:
            return ids + shift[np.searchsorted(offsets, ids, side="right") - 1]

        ids = moved(self.ids)
        order = np.argsort(ids)
        return Circuit(
            self.title,
            self.model,
            self.weights_sha256,
            index,
            ids[order],
            np.sort(moved(self.reachable)),
            self.scores[order],
            self.positions[order],
            self.origins,
        )


def aligned(left: Circuit, right: Any) -> tuple[Circuit, Circuit]:
    """Count both circuits over one index; QueryError where they are of different models."""
    _require_circuit(right)
    if left.weights_sha256 != right.weights_sha256:
        raise QueryError(
            f"{left.title} and {right.title} are circuits of different models "
            f"({left.model}, weights {left.weights_sha256[:12]}, and {right.model}, weights "
            f"{right.weights_sha256[:12]}): compare circuits of one model"
        )
    return _over_one_index(left, right)


def of_one_architecture(left: Circuit, right: Any) -> tuple[Circuit, Circuit]:
    """Count both circuits over one index, whatever their weights are; QueryError where their
    convolutions are not the same."""
    _require_circuit(right)
    if left.weights_sha256 != right.weights_sha256 and left.index != right.index:
        raise QueryError(
            f"{left.title} and {right.title} are circuits of different networks ({left.model} and "
            f"{right.model}), whose convolutions are not the same: compare circuits of one "
            "network, of a layer that both atlases have"
        )
    return _over_one_index(left, right)


def merged_index(left: KernelIndex, right: KernelIndex) -> KernelIndex:
    """Return one index for the two, whichever stands left: `a | b` and `b | a` list the same.
    QueryError where a convolution has two shapes."""
    convolutions = {c.name: c for c in left.convolutions}
    for convolution in right.convolutions:
        known = convolutions.setdefault(convolution.name, convolution)
        if _shape(known) != _shape(convolution):
            raise QueryError(
                f"{convolution.name} has shape {_shape(convolution)} in one and {_shape(known)} in "
                "the other: compare circuits of one model"
            )
    return KernelIndex(tuple(sorted(convolutions.values(), key=lambda c: (c.depth, c.name))))


def _require_circuit(right: Any) -> None:
    if not isinstance(right, Circuit):
        raise QueryError(f"a circuit combines with a circuit, not with a {type(right).__name__}")


def _over_one_index(left: Circuit, right: Circuit) -> tuple[Circuit, Circuit]:
    if left.index == right.index:
        return left, right
    merged = merged_index(left.index, right.index)
    return left._on(merged), right._on(merged)


def _either(left: Ids, right: Ids) -> Ids:
    """Names of either of two ascending lists. Merged, not hashed, as `np.union1d` does: that takes
    seconds for millions."""
    both = np.concatenate([left, right])
    both.sort(kind="stable")
    return both[np.flatnonzero(np.diff(both, prepend=-1))]


def _shape(convolution: Convolution) -> tuple[int, int, int]:
    return convolution.out_channels, convolution.in_channels, convolution.groups


def _whole(index: KernelIndex) -> KernelIndex:
    """The index with all rows of every convolution, where a position is a full id."""
    return KernelIndex(tuple(replace(c, one_row=False) for c in index.convolutions))
