"""Transformers followed as wholes: what `channel_tracing` pins at attention, LayerNorm and single parameters.

The rules are about operations, not about architectures:

- A parameter that is no layer's weight (position embedding, class token, LayerScale, bias table) enters with a label
  for each element. In the end its labels may differ along one dim, and that dim loses indices.
- What reads a channel at many positions joins the labels of that channel, and so does a concatenation of tokens.
- LayerNorm passes labels on and notes that its statistics run over these channels.
- A product of activations, or the attention made of two, joins all labels of each head: whole heads go, or none.
- A convolution in groups joins the inputs and outputs of each group, or the places that are alike in all groups.
- Where a dim is split or merged (queries, keys and values side by side, each in heads), what goes has to leave a
  rectangle: a grid is noted, and labels that vary along two of its dims in the end are pinned. So are those of a dim
  that the code reads by number.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.core.torch_private import SOFTMAX, VIEWS, tree_leaves, works_in_place
from tailor.pruning import channel_tracing
from tailor.pruning.channel_labels import POINTWISE, ChannelLabels, enter, follow, on_meta, pinned_labels
from tailor.pruning.channel_tracing import blocks, note_unread
from tailor.pruning.dependency_trace import Product, core, varies
from tailor.pruning.whole_trace import WholeTrace, compact, dims_that_vary
from tailor.stages import ConvGroups

aten = torch.ops.aten


# --- layers and attention, as torch's functions. None: leave it to the operations below. ---


def _conv(
    trace: WholeTrace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kw: Any
) -> ChannelLabels | None:
    inputs, groups = x.shape[1], x.shape[1] // weight.shape[1]
    names = [trace.tensor_of.get(id(tensor)) for tensor in (weight, bias) if tensor is not None]
    if trace.conv_groups == "none" or groups in (1, inputs) or None in names:
        made: ChannelLabels | None = channel_tracing.LAYERS[func](trace, func, x, weight, bias, *rest, **kw)
        return made
    layer = str(names[0]).removesuffix(".weight")
    read, outputs = trace.channels(x.ids, 1), trace.outputs(layer, weight.shape[0])
    before, after = read.reshape(groups, -1), outputs.reshape(groups, -1)
    if trace.conv_groups == "whole":
        trace.join(before[:, :1], before)
        trace.join(before[:, :1], after)
    else:
        trace.join(before[:1], before)
        trace.join(after[:1], after)
        trace.use(str(names[0]), 1, before[0])
    for name in names:
        trace.use(str(name), 0, outputs)
    trace.grouped[layer] = torch.cat([read, outputs])
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    return ChannelLabels(outputs.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape), trace, layer)


def _linear(trace: WholeTrace, func: Any, x: Any, weight: Tensor, bias: Tensor | None = None) -> ChannelLabels | None:
    x, name = enter(trace, x), trace.tensor_of.get(id(weight))
    own_bias = None if bias is None else trace.tensor_of.get(id(bias))
    if name is None or (bias is not None and own_bias is None and not isinstance(bias, ChannelLabels)):
        if isinstance(x, ChannelLabels):
            note_unread(trace, None, x)
        return None
    if isinstance(x, ChannelLabels):
        ids, shape = compact(x.ids), on_meta(func, (x, weight, bias), {}).shape
        if not varies(ids, -1) and dims_that_vary(ids, range(ids.dim())):  # tokens are mixed, each channel by itself
            _note_product(trace, ids, math.prod(shape) * weight.shape[1], has_heads=False)
            return ChannelLabels(ids.narrow(-1, 0, 1).expand(shape), trace)
        trace.use(name, 1, trace.channels(ids, -1))
    layer = name.removesuffix(".weight")
    made = trace.outputs(layer, weight.shape[0])
    trace.use(name, 0, made)
    if own_bias is not None:
        trace.use(own_bias, 0, made)
    elif isinstance(bias, ChannelLabels):
        trace.join(made, bias.ids)
    if x.dim() > 3:
        trace.channels_last.add(layer)
    return ChannelLabels(made.expand(on_meta(func, (x, weight, bias), {}).shape), trace, layer)


def _layer_norm(
    trace: WholeTrace,
    _func: Any,
    x: Any,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    _eps: float = 1e-5,
    **_kw: Any,
) -> ChannelLabels | None:
    if not isinstance(x, ChannelLabels) or len(normalized_shape) != 1:
        return None
    ids = compact(x.ids)
    if not varies(ids, -1):
        return ChannelLabels(ids, trace)
    if dims_that_vary(ids, range(ids.dim() - 1)):  # inside heads: whole ones go, and the norm stays
        first = ids.narrow(-1, 0, 1)
        trace.join(ids, first)
        return ChannelLabels(first.expand(ids.shape), trace)
    names = [trace.tensor_of.get(id(tensor)) for tensor in (weight, bias) if tensor is not None]
    if not names or None in names or not str(names[0]).endswith(".weight"):
        return None  # without factors, nothing in the state would say how wide it is
    read = trace.channels(ids, -1)
    for name in names:
        trace.use(str(name), 0, read)
    trace.normed.append(read)
    return ChannelLabels(ids, trace)


def _rms_norm(trace: WholeTrace, func: Any, x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Any:
    return _layer_norm(trace, func, x, shape, weight, None, eps)


def _group_norm(
    trace: WholeTrace, func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, *_rest: Any, **_kw: Any
) -> Any:
    """One group: as a norm over the channels, which are at dim 1, and over all positions."""
    if groups != 1:
        return channel_tracing.LAYERS[func](trace, func, x, groups, weight, bias)
    if dims_that_vary(ids := compact(x.ids), range(2, ids.dim())):
        return None
    last = ChannelLabels(ids.movedim(1, -1), trace)
    made = _layer_norm(trace, func, last, (x.shape[1],), weight, bias)
    return None if made is None else ChannelLabels(made.ids.movedim(-1, 1), trace)


def _attention(
    trace: WholeTrace, func: Any, query: Any, key: Any, value: Any, *others: Any, **named: Any
) -> ChannelLabels | None:
    parts, mask = [query, key, value], others[0] if others else named.get("attn_mask")
    heads = None if named.get("enable_gqa") else _joined_heads(trace, parts)
    if heads is None:
        return None
    if isinstance(mask, ChannelLabels):
        trace.join(heads, mask.ids)
    elif isinstance(mask, Tensor):
        _meet_constant(trace, heads, mask)
    made = on_meta(func, (*parts, *others), named)
    each = query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    _note_product(trace, heads, math.prod(made.shape[:-2]) * each)
    return ChannelLabels(heads.expand(made.shape), trace)


def _matmul(trace: WholeTrace, func: Any, x: Any, y: Any) -> ChannelLabels | None:
    heads = _joined_heads(trace, [x, y])
    if heads is None:
        return None
    shape = on_meta(func, (x, y), {}).shape
    _note_product(trace, heads, math.prod(shape) * x.shape[-1])
    return ChannelLabels(heads.expand(shape), trace)


def _joined_heads(trace: WholeTrace, parts: list[Any]) -> Tensor | None:
    """Labels (..., H, 1, 1) of what is multiplied head by head, all labels of each head joined; None: there are none.

    A product over channels that are in no heads is pinned by what the dispatcher sees of it.
    """
    if not all(isinstance(part, ChannelLabels) and part.dim() > 2 for part in parts):
        return None
    all_ids = [compact(part.ids) for part in parts]
    if not all(dims_that_vary(ids, range(ids.dim() - 2)) for ids in all_ids):
        return None
    heads = all_ids[0][..., :1, :1]
    for ids in all_ids:
        trace.join(heads, ids)
    return heads


def _note_product(trace: WholeTrace, labels: Tensor, macs: int, *, has_heads: bool = True) -> None:
    labels = core(labels)
    trace.products.append(Product(each=labels.flatten(), macs=macs // labels.numel(), has_heads=has_heads))


def _meet_constant(trace: WholeTrace, labels: Tensor, value: Tensor) -> None:
    """Numbers that depend on no filter, combined with labels: those along which they differ are read by number."""
    sizes = (1,) * (labels.dim() - value.dim()) + tuple(value.shape)
    trace.grid(labels, [d for d in range(labels.dim()) if sizes[len(sizes) - labels.dim() + d] > 1])


LAYERS: dict[Any, Callable[..., Any]] = {
    **channel_tracing.LAYERS,
    F.conv2d: _conv,
    F.linear: _linear,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.group_norm: _group_norm,
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm), _matmul),
}


# --- operations between layers ---


def _pointwise(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> Any:
    """Join what is combined. Of equal labels, those that vary along the fewest dims are passed on."""
    leaves = tree_leaves((args, kwargs))
    if works_in_place(func) and not isinstance(args[0], ChannelLabels):
        return None
    given = [leaf.ids for leaf in leaves if isinstance(leaf, ChannelLabels)]
    numbers = [a for a in leaves if isinstance(a, Tensor) and not isinstance(a, ChannelLabels) and a.numel() > 1]
    shape = torch.broadcast_shapes(*(ids.shape for ids in given), *(a.shape for a in numbers))
    if func.overloadpacket in (aten.mul, aten.mul_) and len(given) == 2:
        small, large = sorted(given, key=Tensor.numel)
        if small.numel() < large.numel():
            trace.gates |= trace.layers_of(small) - trace.layers_of(large)
    for other in given[1:]:
        trace.join(given[0], other)
    whole = min((ids.expand(shape) for ids in given), key=lambda ids: len(dims_that_vary(ids, range(ids.dim()))))
    for value in numbers:
        _meet_constant(trace, whole, value)
    if works_in_place(func):
        return args[0]
    return ChannelLabels(whole, trace)


def _view(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """A change of shape: dims that are split or merged while labels vary along them make a grid."""
    ids, shape = compact(args[0].ids), on_meta(func, args, kwargs).shape
    small, target, changes = ids, [], False
    for old, new in blocks(ids.shape, shape):
        before, after = [[n for n in s if n != 1] for s in (ids.shape[slice(*old)], shape[slice(*new)])]
        if not dims_that_vary(ids, range(*old)):
            for d in range(*old):
                small = small.narrow(d, 0, 1)
            target += [1] * (new[1] - new[0])
            continue
        if before != after and len(before) > 1 and len(after) > 1:
            return None
        target += shape[slice(*new)]
        changes |= before != after
    made = compact(small.reshape(target)).expand(shape)
    if changes:
        trace.grid(ids)
        trace.grid(made)
    return ChannelLabels(made, trace)


def _cat(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """Side by side along a dim; along the others, labels at equal places are joined."""
    parts = [part for part in args[0] if part.numel()]
    dim = (args[1] if len(args) > 1 else 0) % parts[0].dim()
    rows = [p.ids if isinstance(p, ChannelLabels) else pinned_labels(p.shape) for p in parts]
    shape = list(rows[0].shape)
    shape[dim] = sum(row.shape[dim] for row in rows)
    if any(dims_that_vary(row, (d for d in range(len(shape)) if d != dim)) for row in rows):
        firsts = [row.narrow(dim, 0, 1) for row in rows]
        for row in rows:
            trace.join(firsts[0], row)
        fewest = min(firsts, key=lambda ids: len(dims_that_vary(ids, range(ids.dim()))))
        return ChannelLabels(fewest.expand(shape), trace)
    made: ChannelLabels | None = channel_tracing.HANDLERS[aten.cat](trace, func, args, kwargs)
    return made


def _softmax(trace: WholeTrace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    ids, dim = args[0].ids, args[1]
    if varies(ids, dim):
        trace.join(ids, ids.narrow(dim, 0, 1))
    return ChannelLabels(ids, trace)


def _norm(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """A length of vectors: what it is computed of stays or goes together."""
    ids, dims = compact(args[0].ids), args[2] if len(args) > 2 else kwargs.get("dim")
    if not dims or not (args[3] if len(args) > 3 else kwargs.get("keepdim", False)):
        return None
    for dim in dims:
        first = ids.narrow(dim, 0, 1)
        trace.join(ids, first)
        ids = first
    return ChannelLabels(ids.expand(on_meta(func, args, kwargs).shape), trace)


def _pick(dims_of: Callable[..., list[int]], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Handler of an operation that reads a dim by number: done to the labels, of which none of that dim goes."""

    def handler(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> Any:
        ids = compact(args[0].ids)
        (dim,) = dims_of(args, kwargs)
        dim %= ids.dim()
        if not varies(ids, dim):
            return otherwise(trace, func, (ChannelLabels(ids, trace), *args[1:]), kwargs)
        picked = tree_leaves(func(ids, *args[1:], **kwargs))
        if func.overloadpacket is aten.split and len({part.shape for part in picked}) == 1:
            trace.grid(ids.unflatten(dim, (len(picked), -1)), [dim])
        elif func.overloadpacket is aten.slice and picked[0].shape == ids.shape:
            return ChannelLabels(ids, trace)
        else:
            trace.grid(ids, [dim])
        made = [ChannelLabels(compact(part), trace) for part in picked]
        return made[0] if func.overloadpacket in (aten.select, aten.slice) else made

    return handler


def _index(trace: WholeTrace, func: Any, args: Any, _kwargs: Any) -> ChannelLabels | None:
    """Looked up by integers, as relative positions are: done to the labels."""
    x, indices = args[0], args[1]
    given = {d: index for d, index in enumerate(indices) if index is not None}
    if not isinstance(x, ChannelLabels) or any(
        isinstance(index, ChannelLabels) or index.dtype == torch.bool for index in given.values()
    ):
        return None
    ids = compact(x.ids)
    if any(index.is_meta for index in given.values()):
        if dims_that_vary(ids, given):
            return None  # which ones are looked up is not known
        indices = [None if i is None else torch.zeros(i.shape, dtype=torch.int64) for i in indices]
    trace.grid(ids, given)
    return ChannelLabels(compact(func(ids, [None if i is None else i.cpu() for i in indices])), trace)


def _blank(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> Tensor:
    """Numbers that are made in the shape of labels, and depend on no filter."""
    made = on_meta(func, args, kwargs)
    return torch.zeros(made.shape, dtype=made.dtype, device=trace.like.device)


_first, _second = channel_tracing.dim_argument(1, 0), channel_tracing.dim_argument(2, 0)
HANDLERS: dict[Any, Callable[..., Any]] = {
    **channel_tracing.HANDLERS,
    POINTWISE: _pointwise,
    **dict.fromkeys((aten.view, *VIEWS), _view),
    aten.cat: _cat,
    SOFTMAX: _softmax,
    aten.linalg_vector_norm: _norm,
    **{op: _pick(_first, channel_tracing.HANDLERS[op]) for op in (aten.slice, aten.select, aten.unbind)},
    **{op: _pick(_second, channel_tracing.HANDLERS[op]) for op in (aten.split, aten.split_with_sizes)},
    aten.index: _index,
    **dict.fromkeys((aten.new_zeros, aten.new_ones, aten.zeros_like, aten.ones_like, aten.new_full), _blank),
}


def follow_whole(model: nn.Module, input_shape: tuple[int, ...], conv_groups: ConvGroups = "none") -> WholeTrace:
    """The trace of one forward pass, as by `follow`."""
    return follow(model, input_shape, partial(WholeTrace, layers=LAYERS, handlers=HANDLERS, conv_groups=conv_groups))
