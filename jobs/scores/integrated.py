"""Gradients averaged on the way from an image of one colour to the image."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.conv_gradients import ConvCall
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.scores.criteria import actgrad


def integrated(calls: Sequence[ConvCall]) -> Tensor:
    """Computes the mean over positions of |A_oi * G_o|: (units, g, o, i).

    G_o is the mean of dr/dY_o over the images of an `ImagePath`, which the calls have in place of
    their gradients; for mean ablation A_oi is what the kernel adds beyond its mean.

    It is EAP-IG (Hanna, Pezzelle and Belinkov, "Have Faith in Faithfulness", 2024, arXiv
    2403.17806) for kernels: the change of an edge's activation by its ablation, times the gradient
    at its end, averaged over inputs that lie k / n of the way from a corrupted one to the whole
    one, k = 1..n. An image of one colour stands for the corrupted input: a circuit in which no
    kernel acts makes as little of images as the network does of that. The absolute value is taken
    position by position, as in `actgrad`.

    Scaling the kernels in place of the image ends at the ablated network itself. It is worse (r =
    .09 for .24 at a tenth of the kernels, zero ablation, held out, four units of the demo's layer):
    on its way what images make of the network falls with a power of the depth, and biases stay.
    """
    return actgrad(
        [
            call if call.centred is None else replace(call, unfolded=call.centred, input=None)
            for call in calls
        ]
    )


@dataclass(frozen=True)
class ImagePath:
    """Images between one of a single colour and the image.

    Attributes:
        steps: n; the k-th image, k = 1..n, lies k / n of the way.
        colour: (1, channels, 1, 1), where the way begins.
        means: every kernel's mean contribution for mean ablation; None for zero ablation.
    """

    steps: int
    colour: Tensor
    means: KernelMeans | None

    @property
    def mean_inputs(self) -> Mapping[str, Tensor] | None:
        """The inputs' means, where kernels are ablated to theirs."""
        return None if self.means is None else self.means.inputs

    def forwards(self, image: Tensor, whole: Forward) -> Iterator[Forward]:
        """Runs the images on the way to one (1, channels, height, width); the last is that itself,
        whose values are known."""
        for step in range(1, self.steps):
            between = torch.lerp(self.colour.expand_as(image), image, step / self.steps)
            yield Forward(whole.network, whole.network.forward(between))
        yield whole


def mean_colour(batches: Iterable[Tensor]) -> Tensor:
    """Averages images (batch, channels, height, width) over images and positions: (1, channels, 1,
    1)."""
    means = [image.mean((2, 3), keepdim=True) for batch in batches for image in batch.split(1)]
    return torch.stack(means).mean(0)
