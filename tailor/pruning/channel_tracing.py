"""Traces which layers read each filter's output: the forward pass is run on labels instead of numbers.

Every output of a convolution or linear layer gets a label. The network's own code is then run on tensors of labels
(`channel_labels`): an operation that moves elements (flatten, concatenation, transposition) moves labels, an operation
that combines two elements (the addition of a skip, a gate) joins their labels, and a layer records which labels it
reads at which input. So no architecture needs its own rule. An operation that is not known, or that would compute
something else for the other channels if some were missing (attention, LayerNorm, grouped convolutions, halves of the
channels), pins the labels that it reads: their filters have to stay. An unknown operation costs prunable filters, never
correctness.
"""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.core.torch_private import (
    AVERAGE_POOL,
    AVERAGE_POOL_3D,
    COPY,
    VIEWS,
    NormBase,
    tree_leaves,
    tree_map,
    works_in_place,
)
from tailor.pruning.channel_labels import POINTWISE, ChannelLabels, follow, on_meta, pinned_labels
from tailor.pruning.dependency_trace import Trace, varies

aten = torch.ops.aten


# --- layers: those with filters, and norms, which work on each channel alone. None: the operations below handle it. ---


def _conv(
    trace: Trace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kw: Any
) -> ChannelLabels | None:
    layer, read = _layer(trace, weight, bias), trace.channels(x.ids, 1)
    if layer is None or read is None:
        note_unread(trace, layer, x)
        return None
    inputs, outputs = read.numel(), weight.shape[0]
    groups = inputs // weight.shape[1]
    if groups == 1:
        trace.use(f"{layer}.weight", 1, read)
        made = trace.outputs(layer, outputs)
    elif groups == inputs:  # depthwise: each output belongs to the filter of its one input
        made = read.repeat_interleave(outputs // inputs)
    else:
        trace.unread[layer] = why = "a grouped convolution"
        trace.pin(read, why)
        return None
    _use_outputs(trace, layer, bias, made)
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    return ChannelLabels(made.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape), trace, layer)


def _linear(trace: Trace, func: Any, x: Any, weight: Tensor, bias: Tensor | None = None) -> ChannelLabels | None:
    if not isinstance(x, ChannelLabels):
        return None
    layer, read = _layer(trace, weight, bias), trace.channels(x.ids, -1)
    if layer is None or read is None:
        note_unread(trace, layer, x)
        return None
    trace.use(f"{layer}.weight", 1, read)
    made = trace.outputs(layer, weight.shape[0])
    _use_outputs(trace, layer, bias, made)
    if x.dim() > 3:
        trace.channels_last.add(layer)
    return ChannelLabels(made.expand(on_meta(func, (x, weight, bias), {}).shape), trace, layer)


def _channel_norm(
    trace: Trace,
    _func: Any,
    x: ChannelLabels,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_rest: Any,
    **_kw: Any,
) -> ChannelLabels | None:
    """BatchNorm and InstanceNorm, with or without factors and statistics: each channel is normed by itself."""
    read = trace.channels(x.ids, 1)
    tensors = (weight, bias, running_mean, running_var)
    names = [trace.tensor_of.get(id(tensor)) for tensor in tensors if tensor is not None]
    if read is None or None in names:
        return None
    for name in names:
        trace.use(str(name), 0, read)
    norm, module = trace.running[-1]
    if not isinstance(module, NormBase | nn.GroupNorm):  # called as a function
        return ChannelLabels(x.ids, trace)
    if not names:
        trace.join(trace.unsized.setdefault(norm, read), read)
    if x.maker is not None:
        trace.norm_of.setdefault(x.maker, norm)
    return ChannelLabels(x.ids, trace, norm)


def _group_norm(
    trace: Trace, func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, *_rest: Any, **_kw: Any
) -> ChannelLabels | None:
    """With as many groups as channels, each channel is normed by itself."""
    if groups == x.shape[1]:
        return _channel_norm(trace, func, x, weight=weight, bias=bias)
    trace.pin(x.ids, f"a norm over each {x.shape[1] // groups} of its channels")
    return None


def _prelu(trace: Trace, _func: Any, x: ChannelLabels, weight: Tensor) -> ChannelLabels | None:
    if weight.numel() > 1:
        name, read = trace.tensor_of.get(id(weight)), trace.channels(x.ids, 1)
        if name is None or read is None:
            return None
        trace.use(name, 0, read)
    return ChannelLabels(x.ids, trace)


LAYERS: dict[Any, Callable[..., ChannelLabels | None]] = {
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.conv3d: _conv,
    F.linear: _linear,
    F.batch_norm: _channel_norm,
    F.instance_norm: _channel_norm,
    F.group_norm: _group_norm,
    F.prelu: _prelu,
}


def _layer(trace: Trace, weight: Tensor, bias: Tensor | None) -> str | None:
    """The module whose weight (and bias) this is; None if they were computed or have other names."""
    layer, _, kind = trace.tensor_of.get(id(weight), "").rpartition(".")
    named = kind == "weight" and (bias is None or trace.tensor_of.get(id(bias)) == f"{layer}.bias")
    return layer if named and layer else None


def note_unread(trace: Trace, layer: str | None, x: ChannelLabels) -> None:
    """Note why a layer's filters stay, and pin what it reads: its weight is not its own, or it reads no channels."""
    if layer is not None:
        trace.unread[layer] = "its inputs are other channels at other positions"
        return
    name, _ = trace.running[-1]
    trace.unread[name] = "its code computes its weight or bias, or they have other names"
    trace.pin(x.ids, f"{name or 'the network'}, whose code computes its weight or bias")


def _use_outputs(trace: Trace, layer: str, bias: Tensor | None, labels: Tensor) -> None:
    trace.use(f"{layer}.weight", 0, labels)
    if bias is not None:
        trace.use(f"{layer}.bias", 0, labels)


# --- operations between layers. None: not known, so all labels that it reads are pinned. ---


def _pointwise(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Join the labels of combined elements; numbers that depend on no filter pin them, except single numbers."""
    combined = [
        a.ids if isinstance(a, ChannelLabels) else pinned_labels(a.shape)
        for a in tree_leaves((args, kwargs))
        if isinstance(a, ChannelLabels) or (isinstance(a, Tensor) and a.numel() > 1)
    ]
    if func.overloadpacket in (aten.mul, aten.mul_) and len(combined) == 2:
        small, large = sorted(combined, key=Tensor.numel)
        if small.numel() < large.numel():
            trace.gates |= trace.layers_of(small) - trace.layers_of(large)
    for other in combined[1:]:
        trace.join(combined[0], other)
    if works_in_place(func):
        return args[0]
    # Of equal labels, those that vary along the fewest dims are passed on.
    largest = min(combined, key=lambda ids: (sum(varies(ids, d) for d in range(ids.dim())), -ids.numel()))
    return ChannelLabels(largest.expand(torch.broadcast_shapes(*(ids.shape for ids in combined))), trace)


def _same(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    return ChannelLabels(args[0].ids, trace)


def _copy(trace: Trace, _func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """Numbers of another precision or place are followed, integers (which may be looked up) are not."""
    dtype = kwargs.get("dtype") or args[0].dtype
    return ChannelLabels(args[0].ids, trace, dtype=dtype) if dtype.is_floating_point else None


def _move(trace: Trace, func: Any, args: Any, kwargs: Any) -> ChannelLabels:
    """Apply an operation that only changes the view to the labels themselves."""
    return ChannelLabels(func(args[0].ids, *args[1:], **kwargs), trace)


def _view(trace: Trace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """Change the shape; None if a dim that varies is split, because pruning would move the split."""
    ids, shape = args[0].ids, on_meta(func, args, kwargs).shape
    for old, new in blocks(ids.shape, shape):
        sizes_before, sizes_after = [[n for n in s if n != 1] for s in (ids.shape[slice(*old)], shape[slice(*new)])]
        if sizes_before != sizes_after and len(sizes_after) > 1 and any(varies(ids, d) for d in range(*old)):
            return None
    return ChannelLabels(ids.reshape(shape), trace)


def blocks(old: torch.Size, new: torch.Size) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """The finest pairs of ranges of dims (start, end) of two shapes that have the same number of elements."""
    i = j = 0
    while i < len(old) or j < len(new):
        start, m, n = (i, j), 1, 1
        while (i, j) == start or m != n:
            if m <= n and i < len(old) or j == len(new):
                m, i = m * old[i], i + 1
            else:
                n, j = n * new[j], j + 1
        yield (start[0], i), (start[1], j)


def _cat(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels | None:
    parts = [part for part in args[0] if part.numel()]
    dim = (args[1] if len(args) > 1 else 0) % parts[0].dim()
    rows = [p.ids if isinstance(p, ChannelLabels) else pinned_labels(p.shape) for p in parts]
    shape = list(rows[0].shape)
    shape[dim] = sum(row.shape[dim] for row in rows)
    for d in range(len(shape)):
        if d != dim and not any(varies(row, d) for row in rows):
            rows = [row.narrow(d, 0, 1) for row in rows]
    return ChannelLabels(torch.cat(rows, dim).expand(shape), trace)


def _positions(dims_of: Callable[..., list[int]]) -> Callable[..., Any]:
    """Handler of an operation that reads, drops, adds or reorders positions along the dims that `dims_of` names."""

    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
        ids, made = args[0].ids, on_meta(func, args, kwargs)
        dims = sorted({dim % ids.dim() for dim in dims_of(args, kwargs)})
        outputs = tree_leaves(made)
        if all(output.shape == ids.shape for output in outputs) and func.overloadpacket is aten.slice:
            return ChannelLabels(ids, trace)  # the whole
        if any(varies(ids, dim) for dim in dims):
            return None
        for dim in dims:
            ids = ids.narrow(dim, 0, 1)
        if outputs[0].dim() < ids.dim():
            ids = ids.squeeze(dims)
        return tree_map(lambda output: ChannelLabels(ids.expand(output.shape), trace, dtype=output.dtype), made)

    return handler


def dim_argument(position: int, default: int | None = None) -> Callable[..., list[int]]:
    def dims_of(args: Any, kwargs: Any) -> list[int]:
        found = args[position] if len(args) > position else kwargs.get("dim", default)
        if isinstance(found, int):
            return [found]
        return list(found or range(args[0].dim()))  # none named: all

    return dims_of


def _last_two(_args: Any, _kwargs: Any) -> list[int]:
    return [-2, -1]


def _last_three(_args: Any, _kwargs: Any) -> list[int]:
    return [-3, -2, -1]


def _padded_axes(args: Any, _kwargs: Any) -> list[int]:
    return [-1 - k for k, pair in enumerate(list(pairwise(args[1]))[::2]) if pair != (0, 0)]


HANDLERS: dict[Any, Callable[..., Any]] = {
    POINTWISE: _pointwise,
    **dict.fromkeys((aten.clone, aten.detach, aten.alias, aten.hardswish, aten.hardswish_), _same),
    COPY: _copy,
    **dict.fromkeys((aten.permute, aten.transpose, aten.t, aten.expand, aten.unsqueeze, aten.squeeze), _move),
    **dict.fromkeys((aten.view, *VIEWS), _view),
    aten.cat: _cat,
    **dict.fromkeys((aten.slice, aten.select, aten.unbind), _positions(dim_argument(1, 0))),
    **dict.fromkeys((aten.split, aten.split_with_sizes), _positions(dim_argument(2, 0))),
    **dict.fromkeys((aten.mean, aten.amax), _positions(dim_argument(1))),
    aten.roll: _positions(dim_argument(2)),
    aten.constant_pad_nd: _positions(_padded_axes),
    **dict.fromkeys(
        (
            aten.avg_pool2d,
            aten.max_pool2d_with_indices,
            AVERAGE_POOL,
            aten.adaptive_max_pool2d,
            aten.upsample_nearest2d,
            aten.upsample_bilinear2d,
        ),
        _positions(_last_two),
    ),
    **dict.fromkeys((aten.avg_pool3d, aten.max_pool3d_with_indices, AVERAGE_POOL_3D), _positions(_last_three)),
}


def follow_filters(model: nn.Module, input_shape: tuple[int, ...]) -> Trace:
    """The trace of one forward pass, as by `follow`."""
    return follow(model, input_shape, partial(Trace, layers=LAYERS, handlers=HANDLERS))
