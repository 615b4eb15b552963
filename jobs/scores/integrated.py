"""Integrated gradients along the path to the network in which every kernel is ablated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from circuit_atlas.jobs.circuits.kernel_means import KernelMeans
from circuit_atlas.jobs.engine.conv_gradients import ConvCall
from circuit_atlas.jobs.engine.forward import Forward
from circuit_atlas.jobs.network.convolution import ConvWeights
from circuit_atlas.jobs.network.graph import Network
from circuit_atlas.jobs.scores.criteria import actgrad


def integrated(calls: Sequence[ConvCall]) -> Tensor:
    """Computes the mean over positions of |A_oi * G_o|: (units, g, o, i).

    G_o is the mean of dr/dY_o over the networks of `AblationPath`, which the calls have in place of
    their gradients; for mean ablation A_oi is what the kernel adds beyond its mean.

    It is EAP-IG (Hanna, Pezzelle and Belinkov, "Have Faith in Faithfulness", 2024, arXiv
    2403.17806) for kernels: the change of an edge's activation by its ablation, times the gradient
    at its end, averaged over k / n of the way from the ablated input to the whole one. Here what is
    ablated is no input but kernels, so the way goes through networks whose kernels are all ablated
    in part: an image that is interpolated leads to no network that a circuit is compared with. The
    absolute value is taken position by position, as in `actgrad`.
    """
    return actgrad(
        [
            call if call.centred is None else replace(call, unfolded=call.centred, input=None)
            for call in calls
        ]
    )


@dataclass(frozen=True)
class AblationPath:
    """Networks between the one with every kernel ablated and the whole one.

    Attributes:
        steps: n; the k-th network, k = 1..n, has kernels k / n whole and the rest ablated.
        means: every kernel's mean contribution for mean ablation; None for zero ablation.
    """

    steps: int
    means: KernelMeans | None

    @property
    def mean_inputs(self) -> Mapping[str, Tensor] | None:
        """The inputs' means, where kernels are ablated to theirs."""
        return None if self.means is None else self.means.inputs

    def forwards(self, image: Tensor, whole: Forward) -> Iterator[Forward]:
        """Runs an image (1, channels, height, width) through each; the last is the whole
        network's, which is known."""
        network = whole.network
        for step in range(1, self.steps):
            replaced = self._weights(network, step / self.steps)
            yield Forward(network, network.forward(image, replaced=replaced), replaced)
        yield whole

    def _weights(self, network: Network, share: float) -> dict[str, ConvWeights]:
        replaced = {}
        for site in network.sites:
            for name in site.steps:
                args = network.by_name[name].args
                bias = args[2] if len(args) > 2 else None
                if self.means is not None:
                    shift = (1 - share) * self.means.by_step[name].sum(1)
                    bias = shift if bias is None else bias + shift
                replaced[name] = ConvWeights(site.weight * share, bias)
        return replaced
