"""A model and images in memory -> the circuit of one unit, without a file.

The unit is computed by what builds an atlas, into an atlas in memory that holds that unit alone: a
build of the same weights, images and settings gives the same scores and the same kernels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from obstore.store import MemoryStore
from torch import Tensor, nn

from circuit_atlas.jobs.spec.circuits import Ablation, Criterion
from circuit_atlas.jobs.spec.layers import Activation
from circuit_atlas.service.client.atlas import Atlas
from circuit_atlas.service.compute.in_memory import open_in_memory
from circuit_atlas.service.compute.one_unit import compute_unit
from circuit_atlas.service.compute.torch_settings import worker_settings
from circuit_atlas.storage_schema.objects import Objects
from circuit_atlas.storage_schema.reader import Reader

if TYPE_CHECKING:
    from circuit_atlas.service.circuit.circuit import Circuit


def find_circuit(
    model: nn.Module,
    images: Tensor,
    *,
    layer: str,
    unit: int,
    criterion: Criterion = "actgrad",
    keep: float = 0.1,
    connected: bool = False,
    held_out: Tensor | None = None,
    ablation: Ablation = "zero",
    activation: Activation = "post",
    response: str | tuple[int, int] = "sum_abs",
    fractions: Sequence[float] = (),
    top_images: int = 16,
    learned: Mapping[str, int | float] | None = None,
    seed: int = 0,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    self_check: bool = True,
) -> Circuit:
    """Find the kernels that one unit of a model needs for its responses to some images.

    ```python
    circuit = find_circuit(model, images, layer="features.6", unit=12, keep=0.1)
    circuit.diagram()
    ```

    The model is copied and the copy computed with, in float32 on the model's device: its weights,
    modes and gradients stay as they are, and it is in evaluation mode beforehand. Its hooks are
    part of what it computes; they are called while it is traced. Nothing is written to disk.

    `circuit.faithfulness()` says how well the circuit preserves the unit's responses, on `images`
    and on `held_out`; `circuit.image_scores()` gives the kernels' scores for single images, and
    `circuit.for_images([0])` the circuit of some of them; `circuit.apply_to(model)` is a copy of
    the model that computes with the circuit alone. `Atlas(circuit.origins[0].reader)` is the atlas
    in memory that all of this is read from.

    Args:
        model: takes images (batch, channels, height, width), in evaluation mode.
        images: (images, channels, height, width), floating, preprocessed as the model wants them.
        layer: path of a module, as in `model.named_modules()`, whose output is a map or a vector,
            such as class scores.
        unit: channel of that output, from 0; of class scores, the class.
        criterion: the score that ranks the kernels: actgrad, actgrad_centred, integrated, cla,
            snip, force, learned, magnitude or random.
        keep: fraction of the kernels that can reach the unit, in (0, 1].
        connected: let kernels on dead ends give way to the next best on a path from the image to
            the unit.
        held_out: images of the same shape that score nothing, to measure faithfulness on.
        ablation: what a dropped kernel becomes: zero, or its mean over `images`.
        activation: `post` explains what the unit passes on, after the ReLU and whatever else treats
            each channel and position for itself, as far as all that reads the layer's output shares
            it; `pre` the layer's own output.
        response: the number explained of the unit's output: `sum_abs`, `max`, or the value at one
            position (y, x).
        fractions: further fractions to measure faithfulness at; the atlas in memory has them.
        top_images: so many images, of the largest responses, have scores of their own.
        learned: for the criterion learned, how it is trained: `steps`, `crop`, `batch`, `rate`,
            `seeds` and `groups` as in the table `[learned]` of a spec.
        seed: decides whatever is drawn.
        mean: with `std`, what was subtracted from each channel of an image with values in 0..1, for
            drawings to show it as it was. Default: each channel is stretched from its least value
            to its largest.
        std: what each channel was divided by after that.
        self_check: first hold the layer against the model itself, on one image.

    Raises:
        ModelError: the model, the layer or the unit cannot be used, or the layer fails the
            self-check.
        ImageError: the images cannot be used.
        SpecError: no such criterion, ablation, response or fraction; a value of `learned` is out of
            range; or `connected`, and a fraction is too small for one path.
        NonFiniteError: the unit responds with NaN or infinity, or its scores hold such.
        UnitError: the unit cannot be computed for another reason.
        QueryError: the unit is dead: its response is the same on every image.
        InfrastructureError: memory ran out.
    """
    with worker_settings():
        one = open_in_memory(
            model,
            images,
            layer=layer,
            unit=unit,
            criterion=criterion,
            keep=keep,
            activation=activation,
            response=response,
            seed=seed,
            self_check=self_check,
            fractions=fractions,
            ablation=ablation,
            circuits={"connected": connected, "top_images": top_images},
            learned=learned,
            held_out=held_out,
            mean=mean,
            std=std,
        )
        objects = Objects(MemoryStore(), location="memory:")
        compute_unit(one.opened, objects)
    found = Atlas(Reader(objects)).layer(layer).unit(one.unit)
    return found.circuit(keep=one.fraction, criterion=criterion)
