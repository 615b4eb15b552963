"""What is known about ATen operations, by name: which move data, and which mix it how far."""

from __future__ import annotations

# One tensor in, one out, each element from the element at its position.
UNARY = frozenset(
    """
    relu silu sigmoid tanh hardswish hardsigmoid hardtanh relu6 gelu elu leaky_relu softplus mish
    clamp abs pow
    """.split()
)
BATCH_NORM = "_native_batch_norm_legit_no_training"
# Each element of the result from the elements at its position, broadcast where a tensor is smaller.
POINTWISE = UNARY | {BATCH_NORM, "add", "sub", "mul", "div", "clone", "dropout", "prelu"}
# Channel c from channel c alone.
CHANNELWISE = POINTWISE | frozenset(
    """
    max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d constant_pad_nd pad
    reflection_pad2d replication_pad2d upsample_nearest2d upsample_bilinear2d instance_norm
    """.split()
)
# Elements move and keep their value.
MOVES = frozenset(
    """
    view _unsafe_view reshape flatten unflatten transpose permute split split_with_sizes chunk
    slice select narrow unsqueeze squeeze index_select stack unbind pixel_shuffle pixel_unshuffle
    channel_shuffle flip roll expand contiguous movedim cat
    """.split()
)
# Moves that leave the last two axes as they are, where these keep their size.
CHANNEL_MOVES = frozenset(
    "view _unsafe_view reshape transpose split split_with_sizes chunk slice stack cat".split()
)
