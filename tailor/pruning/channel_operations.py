"""What moves or combines labels between layers, as operations of torch's dispatcher (see `channel_tracing`).

None as a handler's result: the operation is not known for these labels, so all that it reads are pinned.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tailor.common.torch_private import (
    AVERAGE_POOL,
    AVERAGE_POOL_3D,
    COPY,
    SOFTMAX,
    VIEWS,
    tree_leaves,
    tree_map,
    works_in_place,
)
from tailor.pruning.channel_labels import POINTWISE, ChannelLabels, on_meta, pinned_labels
from tailor.pruning.dependency_trace import Trace, compact, dims_that_vary, varies

aten = torch.ops.aten


def _pointwise(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
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
    _note_gate(trace, func, combined)
    for other in combined[1:]:
        trace.join(combined[0], other)
    passed_on = min([ids.expand(shape) for ids in combined], key=_varying_dims)
    for constant in constants:
        meet_constant(trace, passed_on, constant)
    if works_in_place(func):
        return args[0]
    return ChannelLabels(passed_on, trace)


def _varying_dims(ids: Tensor) -> int:
    """The number of dims along which the labels vary."""
    return len(dims_that_vary(ids, range(ids.dim())))


def _note_gate(trace: Trace, func: Any, combined: list[Tensor]) -> None:
    """Note the layers of the smaller factor of a product of two as gates of the larger one."""
    if func.overloadpacket not in (aten.mul, aten.mul_) or len(combined) != 2:
        return
    small, large = sorted(combined, key=Tensor.numel)
    if small.numel() < large.numel():
        trace.gates |= trace.layers_of(small) - trace.layers_of(large)


def meet_constant(trace: Trace, labels: Tensor, value: Tensor) -> None:
    """Note that labels are combined with numbers that depend on no filter.

    The dims along which the numbers differ are read by number.
    """
    sizes = (1,) * (labels.dim() - value.dim()) + tuple(value.shape)
    sizes = sizes[len(sizes) - labels.dim() :]  # of the dims of the labels
    trace.grid(labels, [dim for dim, size in enumerate(sizes) if size > 1])


def _same(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    """The labels stay where they are."""
    return ChannelLabels(args[0].ids, trace)


def _copy(trace: Trace, _func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """Numbers of another precision or place are followed, integers (which may be looked up) are not."""
    dtype = kwargs.get("dtype") or args[0].dtype
    return ChannelLabels(args[0].ids, trace, dtype=dtype) if dtype.is_floating_point else None


def _move(trace: Trace, func: Any, args: Any, kwargs: Any) -> ChannelLabels:
    """Apply an operation that only changes the view to the labels themselves."""
    return ChannelLabels(func(args[0].ids, *args[1:], **kwargs), trace)


def _view(trace: Trace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
    """A change of shape: dims that are split or merged while labels vary along them make a grid."""
    ids = compact(args[0].ids)
    shape = on_meta(func, args, kwargs).shape
    small = ids  # with size 1 along the dims of blocks in which no label varies
    small_shape: list[int] = []  # of the result, likewise
    is_regrouped = False
    for block in _blocks(ids.shape, shape):
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


@dataclass(frozen=True)
class ReshapedBlock:
    """Neighbouring dims of a shape, and the dims that a change of shape makes of them: as many elements."""

    dims_before: range
    dims_after: range
    sizes_before: list[int]  # of these dims, without sizes of 1
    sizes_after: list[int]


def _blocks(before: torch.Size, after: torch.Size) -> Iterator[ReshapedBlock]:
    """Yield the finest blocks of two shapes that have the same number of elements.

    >>> [(block.sizes_before, block.sizes_after) for block in _blocks(torch.Size([2, 6, 5]), torch.Size([2, 2, 3, 5]))]
    [([2], [2]), ([6], [2, 3]), ([5], [5])]
    """
    start_before = start_after = 0
    while start_before < len(before) or start_after < len(after):
        end_before, end_after = start_before, start_after
        elements_before = elements_after = 1
        is_empty = True
        while is_empty or elements_before != elements_after:
            has_fewer_before = elements_before <= elements_after and end_before < len(before)
            if has_fewer_before or end_after == len(after):
                elements_before *= before[end_before]
                end_before += 1
            else:
                elements_after *= after[end_after]
                end_after += 1
            is_empty = False
        yield ReshapedBlock(
            dims_before=range(start_before, end_before),
            dims_after=range(start_after, end_after),
            sizes_before=[size for size in before[start_before:end_before] if size != 1],
            sizes_after=[size for size in after[start_after:end_after] if size != 1],
        )
        start_before, start_after = end_before, end_after


def _cat(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    """Side by side along a dim; along the others, labels at equal places are joined."""
    tensors = [tensor for tensor in args[0] if tensor.numel()]
    dim = (args[1] if len(args) > 1 else 0) % tensors[0].dim()
    parts = [tensor.ids if isinstance(tensor, ChannelLabels) else pinned_labels(tensor.shape) for tensor in tensors]
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    other_dims = [other for other in range(len(shape)) if other != dim]
    if any(dims_that_vary(part, other_dims) for part in parts):
        firsts = [part.narrow(dim, 0, 1) for part in parts]
        for part in parts:
            trace.join(firsts[0], part)
        return ChannelLabels(min(firsts, key=_varying_dims).expand(shape), trace)
    for other in other_dims:
        parts = [part.narrow(other, 0, 1) for part in parts]
    return ChannelLabels(torch.cat(parts, dim).expand(shape), trace)


def _softmax(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    ids = args[0].ids
    dim = args[1]
    if varies(ids, dim):
        trace.join(ids, ids.narrow(dim, 0, 1))
    return ChannelLabels(ids, trace)


def _norm(trace: Trace, func: Any, args: Any, kwargs: Any) -> ChannelLabels | None:
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


def _pick(dims_of: Callable[..., list[int]]) -> Callable[..., Any]:
    """Handler of an operation that reads a dim by number, so that nothing of this dim may go if labels vary along it.

    The operation is done to the labels.
    """

    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
        ids = compact(args[0].ids)
        dim = dims_of(args, kwargs)[0] % ids.dim()
        picked = tree_leaves(func(ids, *args[1:], **kwargs))
        if func.overloadpacket is aten.slice and picked[0].shape == ids.shape:
            return ChannelLabels(ids, trace)  # the whole
        if varies(ids, dim):
            if func.overloadpacket is aten.split and len({part.shape for part in picked}) == 1:
                trace.grid(ids.unflatten(dim, (len(picked), -1)), [dim])
            else:
                trace.grid(ids, [dim])
        outputs = [ChannelLabels(compact(part), trace, dtype=args[0].dtype) for part in picked]
        return outputs[0] if func.overloadpacket in (aten.select, aten.slice) else outputs

    return handler


def _index(trace: Trace, func: Any, args: Any, _kwargs: Any) -> ChannelLabels | None:
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


def _blank(trace: Trace, func: Any, args: Any, kwargs: Any) -> Tensor:
    """Zeros in place of numbers that are made in the shape of labels; they depend on no filter."""
    result = on_meta(func, args, kwargs)
    return torch.zeros(result.shape, dtype=result.dtype, device=trace.like.device)


def _positions(dims_of: Callable[..., list[int]]) -> Callable[..., Any]:
    """Handler of an operation that drops, adds or reorders positions along the dims that `dims_of` names.

    It returns None, which pins all labels that the operation reads, if labels vary along one of these dims.
    """

    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
        ids = args[0].ids
        result = on_meta(func, args, kwargs)
        dims = sorted({dim % ids.dim() for dim in dims_of(args, kwargs)})
        outputs = tree_leaves(result)
        if any(varies(ids, dim) for dim in dims):
            return None
        for dim in dims:
            ids = ids.narrow(dim, 0, 1)
        if outputs[0].dim() < ids.dim():
            ids = ids.squeeze(dims)
        return tree_map(lambda output: ChannelLabels(ids.expand(output.shape), trace, dtype=output.dtype), result)

    return handler


def _dim_argument(position: int, default: int | None = None) -> Callable[..., list[int]]:
    """A function that returns the dims in an operation's arguments: at a position, or by the name `dim`; else all."""

    def dims_of(args: Any, kwargs: Any) -> list[int]:
        dims = args[position] if len(args) > position else kwargs.get("dim", default)
        if isinstance(dims, int):
            return [dims]
        if not dims:
            return list(range(args[0].dim()))
        return list(dims)

    return dims_of


def _padded_axes(args: Any, _kwargs: Any) -> list[int]:
    """The axes that are made longer: `args[1]` has two numbers for each, from the last axis on."""
    padding = args[1]
    axes = []
    for number in range(len(padding) // 2):
        if padding[2 * number] != 0 or padding[2 * number + 1] != 0:
            axes.append(-1 - number)
    return axes


HANDLERS: dict[Any, Callable[..., Any]] = {
    POINTWISE: _pointwise,
    **dict.fromkeys((aten.clone, aten.detach, aten.alias, aten.hardswish, aten.hardswish_), _same),
    COPY: _copy,
    **dict.fromkeys((aten.permute, aten.transpose, aten.t, aten.expand, aten.unsqueeze, aten.squeeze), _move),
    **dict.fromkeys((aten.view, *VIEWS), _view),
    aten.cat: _cat,
    SOFTMAX: _softmax,
    aten.linalg_vector_norm: _norm,
    **dict.fromkeys((aten.slice, aten.select, aten.unbind), _pick(_dim_argument(1, 0))),
    **dict.fromkeys((aten.split, aten.split_with_sizes), _pick(_dim_argument(2, 0))),
    aten.index: _index,
    **dict.fromkeys((aten.new_zeros, aten.new_ones, aten.zeros_like, aten.ones_like, aten.new_full), _blank),
    **dict.fromkeys((aten.mean, aten.amax), _positions(_dim_argument(1))),
    aten.roll: _positions(_dim_argument(2)),
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
        _positions(lambda _args, _kwargs: [-2, -1]),
    ),
    **dict.fromkeys(
        (aten.avg_pool3d, aten.max_pool3d_with_indices, AVERAGE_POOL_3D),
        _positions(lambda _args, _kwargs: [-3, -2, -1]),
    ),
}
"""Operation -> its handler, of the trace, the operation and its arguments."""
