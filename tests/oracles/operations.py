"""Operations that convolutional networks are made of: each takes maps of 6 channels to maps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

CHANNELS = 6
SIDE = 8
Operation = Callable[[Tensor], Tensor]

_GENERATOR = torch.Generator().manual_seed(0)


def _table(*shape: int) -> Tensor:
    return torch.randn(shape, generator=_GENERATOR, dtype=torch.float64)


_VECTOR = _table(6)
_MATRIX = _table(6, 6)
_MAP = _table(6, 8, 8)
_ROWS = _table(8, 8)
_KERNELS = _table(6, 4, 3, 3)
_TAPS = _table(1, 1, 3)
_GRID = torch.rand((1, 5, 5, 2), generator=_GENERATOR, dtype=torch.float64) * 2 - 1
_MASK = _table(8, 8) > 0
_INDEX = torch.tensor([4, 0, 0, 3])


def _positive(x: Tensor) -> Tensor:
    return x.abs() + 0.5


def _channels_last(x: Tensor, function: Operation) -> Tensor:
    return function(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _tokens(x: Tensor, function: Operation) -> Tensor:
    return function(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)


def _positions(x: Tensor, function: Operation) -> Tensor:
    return function(x.flatten(2)).view_as(x)


def _attention(x: Tensor) -> Tensor:
    parts = x.reshape(x.shape[0], 2, 3, -1).transpose(2, 3)
    mixed = F.scaled_dot_product_attention(parts, parts * 0.5, torch.sin(parts))
    return mixed.transpose(2, 3).reshape(x.shape)


def _shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _written(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, 1:3] = x[:, 3:5] * 2
    y[:, :, 0] += 1
    return y


def _scattered(x: Tensor) -> Tensor:
    index = x.argsort(1)
    return torch.zeros_like(x).scatter(1, index, x * x)


def _added(x: Tensor) -> Tensor:
    return torch.zeros_like(x).index_add(1, torch.tensor([0, 0, 1, 5, 5, 2]), x)


def _unfolded(x: Tensor) -> Tensor:
    columns = F.unfold(x, 3, padding=1)
    return F.fold(columns * columns, (8, 8), 3, padding=1)


_SAME_SHAPE: dict[str, Operation] = {
    # Activation functions.
    "relu": F.relu,
    "relu6": F.relu6,
    "leaky relu": lambda x: F.leaky_relu(x, 0.1),
    "elu": F.elu,
    "selu": F.selu,
    "celu": F.celu,
    "gelu": F.gelu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "silu": F.silu,
    "mish": F.mish,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
    "hardtanh": lambda x: F.hardtanh(x, -0.5, 0.5),
    "softplus": F.softplus,
    "softsign": F.softsign,
    "tanhshrink": F.tanhshrink,
    "softshrink": lambda x: F.softshrink(x, 0.2),
    "hardshrink": lambda x: F.hardshrink(x, 0.2),
    "threshold": lambda x: F.threshold(x, 0.1, 0.3),
    "logsigmoid": F.logsigmoid,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "prelu": lambda x: F.prelu(x, _VECTOR),
    "rrelu": F.rrelu,
    "quick gelu": lambda x: x * torch.sigmoid(1.702 * x),
    "dropout": lambda x: F.dropout(x, training=False),
    "dropout of maps": lambda x: F.dropout2d(x, training=False),
    # Functions of one tensor.
    "abs": torch.abs,
    "neg": torch.neg,
    "exp": torch.exp,
    "exp2": torch.exp2,
    "expm1": torch.expm1,
    "log": lambda x: torch.log(_positive(x)),
    "log2": lambda x: torch.log2(_positive(x)),
    "log1p": lambda x: torch.log1p(_positive(x)),
    "sqrt": lambda x: torch.sqrt(_positive(x)),
    "rsqrt": lambda x: torch.rsqrt(_positive(x)),
    "reciprocal": lambda x: torch.reciprocal(_positive(x)),
    "square": torch.square,
    "sin": torch.sin,
    "cos": torch.cos,
    "atan": torch.atan,
    "sinh": torch.sinh,
    "erf": torch.erf,
    "sinc": torch.sinc,
    "logit": lambda x: torch.logit(torch.sigmoid(x)),
    "nan to num": torch.nan_to_num,
    "pow": lambda x: _positive(x) ** 1.7,
    "a number to the power": lambda x: 1.3**x,
    "steps beside": lambda x: torch.floor(x) + torch.sign(x) * x,
    "clamp": lambda x: x.clamp(-0.4, 0.6),
    "clamp from below": lambda x: x.clamp_min(0.1),
    "clamp from above": lambda x: x.clamp(max=0.1),
    # Functions of several tensors.
    "add": lambda x: torch.add(x, x.flip(1), alpha=0.3),
    "sub": lambda x: torch.sub(x, x.flip(2), alpha=0.3),
    "rsub": lambda x: 1 - x,
    "mul": lambda x: x * x.flip(1),
    "mul by a vector": lambda x: x * _VECTOR[:, None, None],
    "mul by one channel": lambda x: x * x[:, :1],
    "square of itself": lambda x: x * x,
    "div": lambda x: x / _positive(x.flip(1)),
    "remainder": lambda x: torch.remainder(x, _positive(x.flip(1))),
    "maximum": lambda x: torch.maximum(x, x.flip(1)),
    "minimum": lambda x: torch.minimum(x, x.mean(1, keepdim=True)),
    "atan2": lambda x: torch.atan2(x, x.flip(1)),
    "hypot": lambda x: torch.hypot(x, x.flip(3)),
    "copysign": lambda x: torch.copysign(x, x.flip(1)),
    "logaddexp": lambda x: torch.logaddexp(x, x.flip(1)),
    "xlogy": lambda x: torch.xlogy(x, _positive(x.flip(1))),
    "pow of tensors": lambda x: _positive(x) ** x.flip(1),
    "pow of itself": lambda x: _positive(x) ** _positive(x),
    "clamp by tensors": lambda x: torch.clamp(x, x.flip(1) - 1, x.flip(2) + 1),
    "clamp by a constant": lambda x: torch.clamp(x, max=_MAP),
    "lerp": lambda x: torch.lerp(x, x.flip(1), torch.sigmoid(x.flip(2))),
    "addcmul": lambda x: torch.addcmul(x, x.flip(1), x.flip(2), value=0.5),
    "addcdiv": lambda x: torch.addcdiv(x, x.flip(1), _positive(x), value=0.5),
    "where": lambda x: torch.where(x > x.flip(1), x, x * 0.1),
    "where of a constant": lambda x: torch.where(_MASK, x, -x),
    "masked fill": lambda x: x.masked_fill(x > 0.5, 0.25),
    "mask from a comparison": lambda x: x * (x >= x.mean((2, 3), keepdim=True)),
    "logical": lambda x: x * ((x > 0) & ~(x > 0.5)),
    "isnan": lambda x: x * ~torch.isnan(x),
    # Norms.
    "instance norm": F.instance_norm,
    "instance norm, affine": lambda x: F.instance_norm(x, weight=_VECTOR, bias=_VECTOR),
    "group norm": lambda x: F.group_norm(x, 3, _VECTOR, _VECTOR),
    "group norm of one": lambda x: F.group_norm(x, 1),
    "layer norm of maps": lambda x: F.layer_norm(x, (6, 8, 8), _MAP),
    "layer norm of rows": lambda x: F.layer_norm(x, (8,)),
    "layer norm, channels last": lambda x: _channels_last(x, lambda y: F.layer_norm(y, (6,))),
    "rms norm, channels last": lambda x: _channels_last(x, lambda y: F.rms_norm(y, (6,))),
    "local response norm": lambda x: F.local_response_norm(x, 3),
    "normalize": F.normalize,
    "batch norm": lambda x: F.batch_norm(x, _VECTOR, _VECTOR.abs() + 0.1, _VECTOR, _VECTOR),
    "batch norm of vectors": lambda x: (
        x * F.batch_norm(x.mean((2, 3)), _VECTOR, _VECTOR.abs() + 0.1)[..., None, None]
    ),
    "weights of a standardised map": lambda x: (
        (x - x.mean((2, 3), keepdim=True)) / (x.std((2, 3), keepdim=True) + 0.1)
    ),
    # Moves.
    "flip": lambda x: x.flip(1, 3),
    "roll": lambda x: x.roll((1, 2), (1, 2)),
    "roll of all": lambda x: x * x.roll(1, 1),
    "transpose": lambda x: x.transpose(2, 3) * x,
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)),
    "channel shuffle": lambda x: F.channel_shuffle(x, 3),
    "shuffle by views": _shuffled,
    "index select": lambda x: x.index_select(1, torch.tensor([5, 0, 1, 1, 2, 4])),
    "index by a list": lambda x: x[:, [5, 4, 3, 0, 1, 1]],
    "index by a mask": lambda x: x * torch.where(_MASK, 1.0, 0.5),
    "gather": lambda x: x.gather(1, x.argsort(1)),
    "scatter": _scattered,
    "index add": _added,
    "written in place": _written,
    "chunks": lambda x: torch.cat(x.chunk(3, 1)[::-1], 1),
    "unbind and stack": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "unfold and fold": _unfolded,
    "triangle": lambda x: x.tril() + x,
    "movedim": lambda x: x.movedim(1, 3).cumsum(1).movedim(3, 1),
    # Reductions that give something to weight with.
    "mean": lambda x: x * x.mean((2, 3), keepdim=True),
    "mean over channels": lambda x: x * x.mean(1, keepdim=True),
    "sum": lambda x: x * x.sum(3, keepdim=True),
    "variance": lambda x: x * x.var((2, 3), keepdim=True),
    "deviation over channels": lambda x: x * x.std(1, keepdim=True),
    "amax": lambda x: x * x.amax((2, 3), keepdim=True),
    "amin over channels": lambda x: x + x.amin(1, keepdim=True),
    "max with its index": lambda x: x + x.max(1, keepdim=True)[0],
    "median": lambda x: x + x.flatten(2).median(2)[0][..., None, None],
    "kth value": lambda x: x + x.kthvalue(2, dim=1, keepdim=True)[0],
    "topk": lambda x: x + x.topk(2, dim=1)[0].sum(1, keepdim=True),
    "sort": lambda x: x + x.sort(1)[0],
    "argmax": lambda x: x * x.argmax(1, keepdim=True),
    "logsumexp": lambda x: x + x.logsumexp((2, 3), keepdim=True),
    "vector norm": lambda x: x / (x.norm(dim=1, keepdim=True) + 1),
    "product": lambda x: x + x.prod(1, keepdim=True),
    "cumsum": lambda x: x.cumsum(1),
    "cumsum of rows": lambda x: x.cumsum(2),
    "cumprod": lambda x: x.cumprod(3),
    "softmax": lambda x: x * x.softmax(1),
    "softmax over positions": lambda x: x * x.flatten(2).softmax(2).view_as(x),
    "log softmax": lambda x: x.log_softmax(1),
    "cosine similarity": lambda x: x * F.cosine_similarity(x, x.flip(2), 1)[:, None],
    # Products of matrices.
    "einsum": lambda x: torch.einsum("nchw,cd->ndhw", x, _MATRIX),
    "einsum over columns": lambda x: torch.einsum("nchw,wv->nchv", x, _ROWS),
    "matmul by rows": lambda x: _ROWS @ x,
    "batched product": lambda x: _positions(x, lambda y: (y @ y.mT).softmax(2) @ y),
    "linear, channels last": lambda x: _channels_last(x, lambda y: F.linear(y, _MATRIX, _VECTOR)),
    "linear of tokens": lambda x: _tokens(x, lambda y: F.linear(y, _MATRIX)),
    "attention": _attention,
    "outer product": lambda x: torch.einsum("nch,ncw->nchw", x.mean(3), x.mean(2)),
    "distances": lambda x: _tokens(x, lambda y: torch.cdist(y, y + _VECTOR) @ y),
    "gate by two linear layers": lambda x: (
        x * F.linear(F.relu(F.linear(x.mean((2, 3)), _MATRIX)), _MATRIX)[..., None, None]
    ),
    "bilinear": lambda x: _channels_last(
        x, lambda y: F.bilinear(y, y.flip(1), _MATRIX.expand(6, 6, 6))
    ),
    "fourier": lambda x: torch.fft.irfft2(torch.fft.rfft2(x) * _ROWS[:, :5], s=(8, 8)),
    "complex": lambda x: torch.view_as_real(torch.complex(x, x.flip(1)) ** 2).sum(-1),
    # Convolutions that are no candidates.
    "convolution of vectors": lambda x: (
        x * F.conv1d(x.mean((2, 3))[:, None], _TAPS, padding=1)[:, 0, :, None, None]
    ),
    "convolution of volumes": lambda x: F.conv3d(
        x[:, None], _MAP[None, None, :3, :3, :3], padding=1
    )[:, 0],
}

_OTHER_SHAPE: dict[str, Operation] = {
    "glu": lambda x: F.glu(x, 1),
    "max pool": lambda x: F.max_pool2d(x, 3, 2, 1),
    "max pool, dilated": lambda x: F.max_pool2d(x, 2, 2, 0, 2, ceil_mode=True),
    "max pool of a relu": lambda x: F.max_pool2d(F.relu(x), 3, 2, 1),
    "avg pool": lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True, count_include_pad=False),
    "adaptive avg pool": lambda x: F.adaptive_avg_pool2d(x, 3),
    "adaptive max pool": lambda x: F.adaptive_max_pool2d(x, 3),
    "lp pool": lambda x: F.lp_pool2d(_positive(x), 2, 2),
    "pool of vectors": lambda x: F.avg_pool1d(x.flatten(2), 2).unflatten(2, (4, 8)),
    "nearest": lambda x: F.interpolate(x, scale_factor=2),
    "nearest, exact": lambda x: F.interpolate(x, size=(11, 5), mode="nearest-exact"),
    "bilinear resize": lambda x: F.interpolate(x, size=(11, 5), mode="bilinear"),
    "bilinear, corners": lambda x: F.interpolate(x, (5, 9), mode="bilinear", align_corners=True),
    "bilinear, smooth": lambda x: F.interpolate(x, (5, 5), mode="bilinear", antialias=True),
    "bicubic": lambda x: F.interpolate(x, (5, 9), mode="bicubic"),
    "area": lambda x: F.interpolate(x, (4, 4), mode="area"),
    "pixel shuffle": lambda x: F.pixel_shuffle(torch.cat([x, x[:, :2]], 1), 2),
    "pixel unshuffle": lambda x: F.pixel_unshuffle(x, 2),
    "grid sample": lambda x: F.grid_sample(
        x, _GRID.expand(x.shape[0], -1, -1, -1), align_corners=False
    ),
    "grid made of the image": lambda x: F.grid_sample(
        x, torch.tanh(x[:, :2]).permute(0, 2, 3, 1), align_corners=False
    ),
    "pad": lambda x: F.pad(x, (1, 2, 0, 1), value=0.5),
    "pad of channels": lambda x: F.pad(x, (0, 0, 0, 0, 1, 2), value=0.5),
    "crop by a pad": lambda x: F.pad(x, (-1, 0, -2, 0)),
    "reflection pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "replication pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="replicate"),
    "circular pad": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
    "slice": lambda x: x[:, 1:, ::2, 1::3],
    "narrow": lambda x: x.narrow(1, 2, 3),
    "concatenation": lambda x: torch.cat([x.relu(), x, x[:, :1]], 1),
    "concatenation with a table": lambda x: torch.cat([x, _MAP.expand(x.shape[0], -1, -1, -1)], 1),
    "repeat": lambda x: x.repeat(1, 2, 1, 1),
    "repeat interleave": lambda x: x.repeat_interleave(2, 1),
    "tile": lambda x: x.tile((1, 1, 2, 1)),
    "expand": lambda x: x[:, :1].expand(-1, 4, -1, -1) * x[:, 1:5],
    "stack": lambda x: torch.stack([x, x * x], 2).flatten(1, 2),
    "select": lambda x: x[:, 3:4] + x[:, 1][:, None],
    "windows by unfold": lambda x: x.unfold(2, 4, 2).mean(-1),
    "diagonal": lambda x: torch.diag_embed(torch.diagonal(x, dim1=2, dim2=3)),
    "transposed convolution": lambda x: F.conv_transpose2d(x, _KERNELS, stride=2, padding=1),
}

OPERATIONS: dict[str, Operation] = {**_SAME_SHAPE, **_OTHER_SHAPE}
"""Name -> operation."""
