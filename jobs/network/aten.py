"""What is known of ATen operations: which keep channels apart, and which only move elements.

It is a fast way for what convolutional networks are made of. What any other operation reads is
measured (`reads`).
"""

from __future__ import annotations

# One tensor in, one out, each element from the element at its position.
UNARY = frozenset(
    """
    relu silu sigmoid tanh hardswish hardsigmoid hardtanh relu6 gelu elu leaky_relu softplus mish
    clamp clamp_min clamp_max abs pow neg sqrt rsqrt exp log log1p expm1 erf sin cos reciprocal
    square selu celu log_sigmoid hardshrink softshrink threshold
    """.split()
)
BATCH_NORM = "_native_batch_norm_legit_no_training"
# Each element of the result from the elements at its position, broadcast where a tensor is smaller.
POINTWISE = UNARY | {BATCH_NORM, "add", "sub", "mul", "div", "clone", "dropout", "prelu"}
# Channel c from channel c alone, with others of its map.
BY_MAP = frozenset(
    """
    max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d reflection_pad2d
    replication_pad2d constant_pad_nd pad upsample_nearest2d upsample_bilinear2d instance_norm
    """.split()
)
# Channel c from channel c alone, where they run over the last two axes and keep them.
REDUCTIONS = frozenset("mean sum amax amin var std logsumexp".split())
PADS = frozenset(("constant_pad_nd", "pad"))
# Elements move and keep their value.
MOVES = frozenset(
    """
    view _unsafe_view reshape flatten unflatten transpose permute split split_with_sizes chunk
    slice select narrow unsqueeze squeeze index_select stack unbind pixel_shuffle pixel_unshuffle
    channel_shuffle flip roll expand contiguous movedim cat
    """.split()
)
# Without a rule of their own, and as fast through autograd.
QUICK = frozenset(
    """
    avg_pool2d adaptive_avg_pool2d constant_pad_nd pad upsample_nearest2d upsample_bilinear2d
    reflection_pad2d replication_pad2d adaptive_max_pool2d div prelu
    """.split()
)
# Moves after which maps are maps: the last two axes are still rows and columns.
MOVES_OF_MAPS = frozenset(
    """
    split split_with_sizes chunk slice narrow pixel_shuffle pixel_unshuffle channel_shuffle flip
    roll contiguous
    """.split()
)
# Those that are so where these axes keep their size, and are not turned.
MOVES_OF_CHANNELS = frozenset("view _unsafe_view reshape unflatten transpose stack cat".split())
