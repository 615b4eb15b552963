"""A circuit: a set of kernels of one model, with set algebra, counts and export."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from circuit_atlas.service.circuit import algebra, kernel_ids, measured
from circuit_atlas.service.circuit.atlas_table import AtlasTable, html_table
from circuit_atlas.service.circuit.kernel_ids import Ids
from circuit_atlas.service.circuit.kernel_table import convolution_table, kernel_table
from circuit_atlas.service.circuit.origin import Origin
from circuit_atlas.service.circuit.parameter_masks import parameter_masks
from circuit_atlas.service.circuit.saved_circuit import to_json
from circuit_atlas.service.circuit.saved_file import path_of, write_whole
from circuit_atlas.service.circuit.selection import image_ids, select
from circuit_atlas.storage_schema.errors import QueryError
from circuit_atlas.storage_schema.kernels import KernelIndex
from circuit_atlas.storage_schema.wording import listed

if TYPE_CHECKING:
    from torch import Tensor, nn

    from circuit_atlas.service.compute.evaluate import Evaluation
    from circuit_atlas.service.compute.extracted_circuit import ExtractedCircuit
    from circuit_atlas.service.diagram.drawing import Diagram

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
        left, right = algebra.aligned(self, other)
        return bool(np.array_equal(left.ids, right.ids))

    def __hash__(self) -> int:
        return hash((self.weights_sha256, len(self)))

    def __contains__(self, kernel: Any) -> bool:
        """Whether (convolution, output channel, input channel) is in the circuit."""
        sought = kernel_ids.named(self.index, kernel)
        if sought is None:
            return False  # as of any container that holds nothing of the kind
        at = np.searchsorted(self.ids, sought)
        return bool(at < len(self) and self.ids[at] == sought)

    def __or__(self, other: Circuit) -> Circuit:
        return self.union(other)

    def __and__(self, other: Circuit) -> Circuit:
        return self.intersection(other)

    def __sub__(self, other: Circuit) -> Circuit:
        return self.difference(other)

    def union(self, other: Circuit) -> Circuit:
        """Take the kernels of either. QueryError where the other is of another model."""
        return algebra.union(self, other)

    def intersection(self, other: Circuit) -> Circuit:
        """Take the kernels of both. QueryError where the other is of another model."""
        return algebra.intersection(self, other)

    def difference(self, other: Circuit) -> Circuit:
        """Take the kernels of this one that the other lacks. QueryError where it is of another
        model."""
        return algebra.difference(self, other)

    def contains(self, other: Circuit) -> bool:
        """Tell whether every kernel of the other is in this one."""
        left, right = algebra.aligned(self, other)
        return bool(np.isin(right.ids, left.ids, assume_unique=True).all())

    def iou(self, other: Circuit) -> float:
        """Divide the kernels of both by the kernels of either, 0 to 1; NaN where both are empty.

        The other may be of other weights of the same network, such as another checkpoint.
        """
        return algebra.iou(self, other)

    def iou_by_convolution(self, other: Circuit) -> AtlasTable:
        """Do the same for each convolution: convolution; shared, kernels of both;
        either, kernels of either; iou (null where
        neither circuit has a kernel there)."""
        return algebra.iou_by_convolution(self, other)

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
            state[name] *= torch.from_numpy(kept)[:, :, None, None]
        ```

        Returns:
            True where the kernel is in the circuit. Shape of each: (out channels, in channels of a
            group), the first two of the weight's.

        Raises:
            QueryError: a convolution computes its weight, or two share one parameter.
        """
        return parameter_masks(self.index.convolutions, self.grids())

    def by_convolution(self) -> AtlasTable:
        """Return one row for each convolution: convolution, depth, kernels in the circuit, and
        reachable_kernels, those that can reach the unit."""
        return AtlasTable(convolution_table(self))

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
            images=image_ids(images),
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
        return kernel_ids.located(self.index, self.ids)

    def grids(self) -> tuple[NDArray[np.bool_], ...]:
        """Return what is kept of each convolution of `index`. Shape of each: (out channels, in
        channels of a group)."""
        return kernel_ids.grids(self.index, self.ids)
