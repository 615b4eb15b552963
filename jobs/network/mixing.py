"""Whether the images of a batch change each other's output."""

from __future__ import annotations

import torch
from torch import Tensor

from circuit_atlas.jobs.network.layer_network import Network
from circuit_atlas.storage_schema.errors import ModelError

# Rounding as a share of the largest output: a GPU may compute with ten bits of mantissa, and choose
# other ways for a batch of another size.
_ROUNDING = 1e-2


def refuse_mixing(network: Network, like: Tensor) -> None:
    """Raises ModelError where an image gives another output beside a second one than alone; `like`
    has the dtype and device of the network's weights."""
    noise = torch.randn((2, *network.image_shape), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        both = network.output(noise.to(like))
        alone = network.output(noise[:1].to(like))
    finite = both[both.isfinite()].abs()
    slack = _ROUNDING * float(finite.max()) if len(finite) else 0.0
    if (len(both), len(alone)) != (2, 1) or not torch.isclose(
        both[:1], alone, rtol=0, atol=slack, equal_nan=True
    ).all():
        raise ModelError(
            f"layer {network.layer!r} gives an image another output beside a second image than "
            "alone, so each image's response depends on the others of its batch, or on chance; "
            "choose an earlier layer, or a model that takes images one by one"
        )
