"""Traces which layers read each filter's output: the forward pass is run on labels instead of numbers.

Every output of a convolution or linear layer gets a label. The network's own code is then run on tensors of labels:
an operation that moves elements (flatten, concatenation, transposition) moves labels, an operation that combines two
elements (the addition of a skip, a gate) joins their labels, and a layer records which labels it reads at which input.
So no architecture needs its own rule. An operation that is not known, or that would compute something else for the
other channels if some were missing (attention, LayerNorm, grouped convolutions, halves of the channels), pins the
labels that it reads: their filters have to stay. An unknown operation costs prunable filters, never correctness.
"""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.core.torch_private import (
    AVERAGE_POOL,
    COPY,
    VIEWS,
    tree_leaves,
    tree_map,
    without_torch_function,
    works_in_place,
    wrapper,
)
from tailor.pruning.dependency_trace import PINNED, Trace, varies

aten = torch.ops.aten
T = TypeVar("T", bound=Trace)
POINTWISE = "pointwise"  # the handler of each operation on single elements that has none of its own
# Such operations, too, though torch 2.11 does not say so of them.
UNTAGGED = {aten.celu_, aten.elu_, aten.hardsigmoid_, aten.hardtanh_, aten.leaky_relu, aten.leaky_relu_, aten.selu_}


class ChannelLabels(Tensor):
    """A tensor of labels in the place of a tensor of numbers; operations on it make others."""

    ids: Tensor  # int64, of the same shape; dims along which nothing varies have stride 0
    record: Trace
    maker: str | None  # the layer or norm whose output this object is

    @staticmethod
    def __new__(cls, ids: Tensor, trace: Trace, maker: str | None = None) -> "ChannelLabels":
        made: ChannelLabels = wrapper(cls, ids.shape, trace.like)
        made.ids, made.record, made.maker = ids, trace, maker
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with without_torch_function():
            if args and isinstance(args[0], ChannelLabels):
                layer = (args[0].record.layers or LAYERS).get(func)
                made = None if layer is None else layer(args[0].record, func, *args, **(kwargs or {}))
                if made is not None:
                    return made
            return func(*args, **(kwargs or {}))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types it as if it were no class method
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = [a for a in tree_leaves((args, kwargs)) if isinstance(a, ChannelLabels)]
        trace = given[0].record
        handlers = trace.handlers or HANDLERS
        is_pointwise = torch.Tag.pointwise in func.tags or func.overloadpacket in UNTAGGED
        handler = handlers.get(func.overloadpacket, handlers[POINTWISE] if is_pointwise else None)
        made = handler(trace, func, args, kwargs or {}) if handler is not None else None
        return _unknown(given, func, args, kwargs or {}) if made is None else made


def follow(model: nn.Module, input_shape: tuple[int, ...], kind: Callable[..., T]) -> T:
    """The trace of one forward pass of a model in evaluation mode; no weight is read or changed.

    Args:
        model: its training flags are restored afterwards.
        kind: of the trace, which says what the pass understands.
    """
    like = next(model.parameters(), torch.empty(0))
    trace = kind(tensor_of={id(parameter): name for name, parameter in model.named_parameters()}, like=like)
    training = {module: module.training for module in model.modules()}
    hooks = [
        module.register_forward_pre_hook(_call_hook(trace, name))
        for name, module in model.named_modules()
        if not list(module.children())
    ]
    try:
        images = ChannelLabels(pinned_labels((1, *input_shape)), trace)
        with torch.no_grad(), trace.watch():
            result = model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in training.items():
            module.training = flag
    for output in tree_leaves(result):
        if isinstance(output, ChannelLabels):
            trace.pin(output.ids, "the network's output")
    return trace


def _call_hook(trace: Trace, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
    def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.calls[name] = trace.calls.get(name, 0) + 1
        is_activation = type(module).__module__ == nn.ReLU.__module__
        if is_activation and isinstance(inputs[0], ChannelLabels) and inputs[0].maker is not None:
            trace.activation_of.setdefault(inputs[0].maker, name)

    return note


def pinned_labels(shape: Any) -> Tensor:
    """Labels of what is no filter's output, or has to stay."""
    return torch.full((), PINNED).expand(shape)


def on_meta(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation for tensors of these shapes, without computing it."""

    def empty(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    return func(*tree_map(empty, args), **{k: v for k, v in tree_map(empty, kwargs).items() if k != "device"})


# --- layers: those with filters, and norms, which work on each channel alone. None: the operations below handle it. ---


def _conv(
    trace: Trace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kw: Any
) -> ChannelLabels | None:
    layer, read = _layer(trace, weight, bias), trace.channels(x.ids, 1)
    if layer is None or read is None:
        return None
    inputs, outputs = read.numel(), weight.shape[0]
    groups = inputs // weight.shape[1]
    if groups == 1:
        trace.use(f"{layer}.weight", 1, read)
        made = trace.outputs(layer, outputs)
    elif groups == inputs:  # depthwise: each output belongs to the filter of its one input
        made = read.repeat_interleave(outputs // inputs)
    else:
        trace.pin(read, "a grouped convolution")
        return None
    _use_outputs(trace, layer, bias, made)
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    return ChannelLabels(made.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape), trace, layer)


def _linear(
    trace: Trace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None
) -> ChannelLabels | None:
    layer, read = _layer(trace, weight, bias), trace.channels(x.ids, -1)
    if layer is None or read is None:
        return None
    trace.use(f"{layer}.weight", 1, read)
    made = trace.outputs(layer, weight.shape[0])
    _use_outputs(trace, layer, bias, made)
    if x.dim() > 3:
        trace.channels_last.add(layer)
    return ChannelLabels(made.expand(on_meta(func, (x, weight, bias), {}).shape), trace, layer)


def _batch_norm(
    trace: Trace,
    _func: Any,
    x: ChannelLabels,
    mean: Tensor | None,
    variance: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    *_rest: Any,
    **_kw: Any,
) -> ChannelLabels | None:
    read = trace.channels(x.ids, 1)
    if weight is None or bias is None or mean is None or variance is None or read is None:
        return None
    norm = _layer(trace, weight, bias)
    if norm is None:
        return None
    for name in ("weight", "bias", "running_mean", "running_var"):
        trace.use(f"{norm}.{name}", 0, read)
    if x.maker is not None:
        trace.norm_of.setdefault(x.maker, norm)
    return ChannelLabels(x.ids, trace, norm)


LAYERS: dict[Any, Callable[..., ChannelLabels | None]] = {
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.linear: _linear,
    F.batch_norm: _batch_norm,
}


def _layer(trace: Trace, weight: Tensor, bias: Tensor | None) -> str | None:
    """The module whose weight (and bias) this is; None if they were computed or have other names."""
    layer, _, kind = trace.tensor_of.get(id(weight), "").rpartition(".")
    named = kind == "weight" and (bias is None or trace.tensor_of.get(id(bias)) == f"{layer}.bias")
    return layer if named and layer else None


def _use_outputs(trace: Trace, layer: str, bias: Tensor | None, labels: Tensor) -> None:
    trace.use(f"{layer}.weight", 0, labels)
    if bias is not None:
        trace.use(f"{layer}.bias", 0, labels)


# --- operations between layers. None: not known, so all labels that it reads are pinned. ---


def _unknown(given: list[ChannelLabels], func: Any, args: Any, kwargs: Any) -> Any:
    """Pin the labels that are read; the result is not a filter's output."""
    for labels in given:
        labels.record.pin(labels.ids, func.overloadpacket.__name__)
    if works_in_place(func):
        return args[0]
    trace = given[0].record
    return tree_map(
        lambda made: ChannelLabels(pinned_labels(made.shape), trace) if isinstance(made, Tensor) else made,
        on_meta(func, args, kwargs),
    )


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
    largest = max(combined, key=Tensor.numel)
    return ChannelLabels(largest.expand(torch.broadcast_shapes(*(ids.shape for ids in combined))), trace)


def _same(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels:
    return ChannelLabels(args[0].ids, trace)


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
        return tree_map(lambda output: ChannelLabels(ids.expand(output.shape), trace), made)

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


def _padded_axes(args: Any, _kwargs: Any) -> list[int]:
    return [-1 - k for k, pair in enumerate(list(pairwise(args[1]))[::2]) if pair != (0, 0)]


HANDLERS: dict[Any, Callable[..., Any]] = {
    POINTWISE: _pointwise,
    **dict.fromkeys((aten.clone, aten.detach, aten.alias, COPY, aten.hardswish, aten.hardswish_), _same),
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
}
