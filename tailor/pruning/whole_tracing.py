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

from tailor.common.torch_private import SOFTMAX, VIEWS, tree_leaves, works_in_place
from tailor.pruning import channel_tracing
from tailor.pruning.channel_labels import POINTWISE, ChannelLabels, enter, follow, on_meta
from tailor.pruning.channel_tracing import at_dim_1, blocks, concatenated, note_gate, note_unread
from tailor.pruning.dependency_trace import Product, core, varies
from tailor.pruning.whole_trace import WholeTrace, compact, dims_that_vary
from tailor.stages import ConvGroups

aten = torch.ops.aten


# --- layers and attention, as torch's functions. None: leave it to the operations below. ---


def _conv(
    trace: WholeTrace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kw: Any
) -> ChannelLabels | None:
    """A convolution in groups, if such groups are asked for; all others are read as of convolutional networks."""
    groups = x.shape[1] // weight.shape[1]
    is_in_groups = groups not in (1, x.shape[1])
    names = [trace.tensor_of.get(id(tensor)) for tensor in (weight, bias) if tensor is not None]
    if trace.conv_groups == "none" or not is_in_groups or None in names:
        labels: ChannelLabels | None = channel_tracing.LAYERS[func](trace, func, x, weight, bias, *rest, **kw)
        return labels
    layer = str(names[0]).removesuffix(".weight")
    inputs = trace.channels(x.ids, 1)
    outputs = trace.outputs(layer, weight.shape[0])
    inputs_by_group = inputs.reshape(groups, -1)
    outputs_by_group = outputs.reshape(groups, -1)
    if trace.conv_groups == "whole":
        first_inputs = inputs_by_group[:, :1]
        trace.join(first_inputs, inputs_by_group)
        trace.join(first_inputs, outputs_by_group)
    else:
        trace.join(inputs_by_group[:1], inputs_by_group)
        trace.join(outputs_by_group[:1], outputs_by_group)
        trace.use(str(names[0]), 1, inputs_by_group[0])
    for name in names:
        trace.use(str(name), 0, outputs)
    trace.grouped[layer] = torch.cat([inputs, outputs])
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    return ChannelLabels(at_dim_1(outputs, shape), trace, layer)


def _linear(trace: WholeTrace, func: Any, x: Any, weight: Tensor, bias: Tensor | None = None) -> ChannelLabels | None:
    x = enter(trace, x)
    name = trace.tensor_of.get(id(weight))
    bias_name = None if bias is None else trace.tensor_of.get(id(bias))
    is_bias_known = bias is None or bias_name is not None or isinstance(bias, ChannelLabels)
    if name is None or not is_bias_known:
        if isinstance(x, ChannelLabels):
            note_unread(trace, None, x)
        return None
    shape = on_meta(func, (x, weight, bias), {}).shape
    if isinstance(x, ChannelLabels):
        ids = compact(x.ids)
        if not varies(ids, -1) and dims_that_vary(ids, range(ids.dim())):  # tokens are mixed, each channel by itself
            _note_product(trace, ids, math.prod(shape) * weight.shape[1], has_heads=False)
            return ChannelLabels(ids.narrow(-1, 0, 1).expand(shape), trace)
        trace.use(name, 1, trace.channels(ids, -1))
    layer = name.removesuffix(".weight")
    outputs = trace.outputs(layer, weight.shape[0])
    trace.use(name, 0, outputs)
    if bias_name is not None:
        trace.use(bias_name, 0, outputs)
    elif isinstance(bias, ChannelLabels):
        trace.join(outputs, bias.ids)
    if x.dim() > 3:
        trace.channels_last.add(layer)
    return ChannelLabels(outputs.expand(shape), trace, layer)


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
    channels = trace.channels(ids, -1)
    for name in names:
        trace.use(str(name), 0, channels)
    trace.normed.append(channels)
    return ChannelLabels(ids, trace)


def _rms_norm(trace: WholeTrace, func: Any, x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Any:
    return _layer_norm(trace, func, x, shape, weight, None, eps)


def _group_norm(
    trace: WholeTrace, func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, *_rest: Any, **_kw: Any
) -> Any:
    """One group: as a norm over the channels, which are at dim 1, and over all positions."""
    if groups != 1:
        return channel_tracing.LAYERS[func](trace, func, x, groups, weight, bias)
    ids = compact(x.ids)
    if dims_that_vary(ids, range(2, ids.dim())):
        return None
    channels_last = ChannelLabels(ids.movedim(1, -1), trace)
    normed = _layer_norm(trace, func, channels_last, (x.shape[1],), weight, bias)
    return None if normed is None else ChannelLabels(normed.ids.movedim(-1, 1), trace)


def _attention(
    trace: WholeTrace, func: Any, query: Any, key: Any, value: Any, *others: Any, **named: Any
) -> ChannelLabels | None:
    if named.get("enable_gqa"):
        return None
    heads = _joined_heads(trace, [query, key, value])
    if heads is None:
        return None
    mask = others[0] if others else named.get("attn_mask")
    if isinstance(mask, ChannelLabels):
        trace.join(heads, mask.ids)
    elif isinstance(mask, Tensor):
        _meet_constant(trace, heads, mask)
    shape = on_meta(func, (query, key, value, *others), named).shape
    # Queries times keys, and the weights that they give times values.
    macs_per_head = query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    _note_product(trace, heads, math.prod(shape[:-2]) * macs_per_head)
    return ChannelLabels(heads.expand(shape), trace)


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
    ids_of_parts = []
    for part in parts:
        if not isinstance(part, ChannelLabels) or part.dim() <= 2:
            return None
        ids = compact(part.ids)
        if not dims_that_vary(ids, range(ids.dim() - 2)):
            return None
        ids_of_parts.append(ids)
    heads = ids_of_parts[0][..., :1, :1]
    for ids in ids_of_parts:
        trace.join(heads, ids)
    return heads


def _note_product(trace: WholeTrace, labels: Tensor, macs: int, *, has_heads: bool = True) -> None:
    """Note a product of so many MACs in all, equally many for each label that differs."""
    labels = core(labels)
    trace.products.append(Product(each=labels.flatten(), macs=macs // labels.numel(), has_heads=has_heads))


def _meet_constant(trace: WholeTrace, labels: Tensor, value: Tensor) -> None:
    """Note that labels are combined with numbers that depend on no filter.

    The dims along which the numbers differ are read by number.
    """
    sizes = (1,) * (labels.dim() - value.dim()) + tuple(value.shape)
    sizes = sizes[len(sizes) - labels.dim() :]  # of the dims of the labels
    trace.grid(labels, [dim for dim, size in enumerate(sizes) if size > 1])


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
    if works_in_place(func) and not isinstance(args[0], ChannelLabels):
        return None
    combined: list[Tensor] = []
    constants: list[Tensor] = []
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, ChannelLabels):
            combined.append(leaf.ids)
        elif isinstance(leaf, Tensor) and leaf.numel() > 1:
            constants.append(leaf)
    shape = torch.broadcast_shapes(*[tensor.shape for tensor in (*combined, *constants)])
    note_gate(trace, func, combined)
    for other in combined[1:]:
        trace.join(combined[0], other)
    passed_on = min([ids.expand(shape) for ids in combined], key=_varying_dims)
    for constant in constants:
        _meet_constant(trace, passed_on, constant)
    if works_in_place(func):
        return args[0]
    return ChannelLabels(passed_on, trace)


def _varying_dims(ids: Tensor) -> int:
    """The number of dims along which the labels vary."""
    return len(dims_that_vary(ids, range(ids.dim())))


def _view(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """A change of shape: dims that are split or merged while labels vary along them make a grid."""
    ids = compact(args[0].ids)
    shape = on_meta(func, args, kwargs).shape
    small = ids  # with size 1 along the dims of blocks in which no label varies
    small_shape: list[int] = []  # of the result, likewise
    is_regrouped = False
    for block in blocks(ids.shape, shape):
        if not dims_that_vary(ids, block.dims_before):
            for dim in block.dims_before:
                small = small.narrow(dim, 0, 1)
            small_shape += [1] * len(block.dims_after)
            continue
        if block.sizes_before != block.sizes_after:
            if len(block.sizes_before) > 1 and len(block.sizes_after) > 1:
                return None
            is_regrouped = True
        small_shape += [shape[dim] for dim in block.dims_after]
    reshaped = compact(small.reshape(small_shape)).expand(shape)
    if is_regrouped:
        trace.grid(ids)
        trace.grid(reshaped)
    return ChannelLabels(reshaped, trace)


def _cat(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """Side by side along a dim; along the others, labels at equal places are joined."""
    parts, dim = concatenated(args)
    other_dims = [other for other in range(parts[0].dim()) if other != dim]
    if not any(dims_that_vary(part, other_dims) for part in parts):
        labels: ChannelLabels | None = channel_tracing.HANDLERS[aten.cat](trace, func, args, kwargs)
        return labels
    firsts = [part.narrow(dim, 0, 1) for part in parts]
    for part in parts:
        trace.join(firsts[0], part)
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    return ChannelLabels(min(firsts, key=_varying_dims).expand(shape), trace)


def _softmax(trace: WholeTrace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    ids = args[0].ids
    dim = args[1]
    if varies(ids, dim):
        trace.join(ids, ids.narrow(dim, 0, 1))
    return ChannelLabels(ids, trace)


def _norm(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """The length of vectors: the elements of a vector stay or go together."""
    ids = compact(args[0].ids)
    dims = args[2] if len(args) > 2 else kwargs.get("dim")
    keeps_dims = args[3] if len(args) > 3 else kwargs.get("keepdim", False)
    if not dims or not keeps_dims:
        return None
    for dim in dims:
        first = ids.narrow(dim, 0, 1)
        trace.join(ids, first)
        ids = first
    return ChannelLabels(ids.expand(on_meta(func, args, kwargs).shape), trace)


def _pick(dims_of: Callable[..., list[int]], otherwise: Callable[..., Any]) -> Callable[..., Any]:
    """Handler of an operation that reads a dim by number, so that nothing of this dim may go.

    The operation is done to the labels. Where they do not vary along the dim, `otherwise` handles it.
    """

    def handler(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> Any:
        ids = compact(args[0].ids)
        dim = dims_of(args, kwargs)[0] % ids.dim()
        if not varies(ids, dim):
            return otherwise(trace, func, (ChannelLabels(ids, trace), *args[1:]), kwargs)
        picked = tree_leaves(func(ids, *args[1:], **kwargs))
        if func.overloadpacket is aten.slice and picked[0].shape == ids.shape:
            return ChannelLabels(ids, trace)  # the whole
        if func.overloadpacket is aten.split and len({part.shape for part in picked}) == 1:
            trace.grid(ids.unflatten(dim, (len(picked), -1)), [dim])
        else:
            trace.grid(ids, [dim])
        outputs = [ChannelLabels(compact(part), trace) for part in picked]
        return outputs[0] if func.overloadpacket in (aten.select, aten.slice) else outputs

    return handler


def _index(trace: WholeTrace, func: Any, args: Any, _kwargs: Any) -> ChannelLabels | None:
    """Look labels up by integers, as relative positions are; nothing of the dims that are looked up may go."""
    table = args[0]
    index_of = {dim: index for dim, index in enumerate(args[1]) if index is not None}
    if not isinstance(table, ChannelLabels):
        return None
    for index in index_of.values():
        if isinstance(index, ChannelLabels) or index.dtype == torch.bool:
            return None
    ids = compact(table.ids)
    if any(index.is_meta for index in index_of.values()):
        if dims_that_vary(ids, index_of):
            return None  # which ones are looked up is not known
        index_of = {dim: torch.zeros(index.shape, dtype=torch.int64) for dim, index in index_of.items()}
    trace.grid(ids, index_of)
    indices = [index_of[dim].cpu() if dim in index_of else None for dim in range(len(args[1]))]
    return ChannelLabels(compact(func(ids, indices)), trace)


def _blank(trace: WholeTrace, func: Any, args: Any, kwargs: Any) -> Tensor:
    """Zeros in place of numbers that are made in the shape of labels; they depend on no filter."""
    result = on_meta(func, args, kwargs)
    return torch.zeros(result.shape, dtype=result.dtype, device=trace.like.device)


_dim_at_1 = channel_tracing.dim_argument(1, 0)
_dim_at_2 = channel_tracing.dim_argument(2, 0)
HANDLERS: dict[Any, Callable[..., Any]] = {
    **channel_tracing.HANDLERS,
    POINTWISE: _pointwise,
    **dict.fromkeys((aten.view, *VIEWS), _view),
    aten.cat: _cat,
    SOFTMAX: _softmax,
    aten.linalg_vector_norm: _norm,
    **{op: _pick(_dim_at_1, channel_tracing.HANDLERS[op]) for op in (aten.slice, aten.select, aten.unbind)},
    **{op: _pick(_dim_at_2, channel_tracing.HANDLERS[op]) for op in (aten.split, aten.split_with_sizes)},
    aten.index: _index,
    **dict.fromkeys((aten.new_zeros, aten.new_ones, aten.zeros_like, aten.ones_like, aten.new_full), _blank),
}


def follow_whole(model: nn.Module, input_shape: tuple[int, ...], conv_groups: ConvGroups = "none") -> WholeTrace:
    """The trace of one forward pass of a transformer, see `follow`."""
    return follow(model, input_shape, partial(WholeTrace, layers=LAYERS, handlers=HANDLERS, conv_groups=conv_groups))
