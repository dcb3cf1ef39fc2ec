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
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.common.torch_private import (
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
    """A convolution: new labels for its outputs; of a depthwise one those of its inputs."""
    layer = _layer(trace, weight, bias)
    inputs = trace.channels(x.ids, 1)
    if layer is None or inputs is None:
        note_unread(trace, layer, x)
        return None
    groups = len(inputs) // weight.shape[1]
    if groups == 1:
        trace.use(f"{layer}.weight", 1, inputs)
        outputs = trace.outputs(layer, weight.shape[0])
    elif groups == len(inputs):  # depthwise: each output belongs to the filter of its one input
        outputs = inputs.repeat_interleave(weight.shape[0] // len(inputs))
    else:
        trace.unread[layer] = "a grouped convolution"
        trace.pin(inputs, "a grouped convolution")
        return None
    _use_outputs(trace, layer, bias, outputs)
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    return ChannelLabels(at_dim_1(outputs, shape), trace, layer)


def at_dim_1(labels: Tensor, shape: torch.Size) -> Tensor:
    """Labels (C,) of channels, expanded to a shape (B, C, ...)."""
    return labels.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)


def _linear(trace: Trace, func: Any, x: Any, weight: Tensor, bias: Tensor | None = None) -> ChannelLabels | None:
    if not isinstance(x, ChannelLabels):
        return None
    layer = _layer(trace, weight, bias)
    inputs = trace.channels(x.ids, -1)
    if layer is None or inputs is None:
        note_unread(trace, layer, x)
        return None
    trace.use(f"{layer}.weight", 1, inputs)
    outputs = trace.outputs(layer, weight.shape[0])
    _use_outputs(trace, layer, bias, outputs)
    if x.dim() > 3:
        trace.channels_last.add(layer)
    shape = on_meta(func, (x, weight, bias), {}).shape
    return ChannelLabels(outputs.expand(shape), trace, layer)


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
    channels = trace.channels(x.ids, 1)
    tensors = [tensor for tensor in (weight, bias, running_mean, running_var) if tensor is not None]
    names = [trace.tensor_of.get(id(tensor)) for tensor in tensors]
    if channels is None or None in names:
        return None
    for name in names:
        trace.use(str(name), 0, channels)
    norm, module = trace.running[-1]
    if not isinstance(module, NormBase | nn.GroupNorm):  # called as a function
        return ChannelLabels(x.ids, trace)
    if not names:
        channels_of_first_call = trace.unsized.setdefault(norm, channels)
        trace.join(channels_of_first_call, channels)
    if x.maker is not None:
        trace.norm_of.setdefault(x.maker, norm)
    return ChannelLabels(x.ids, trace, norm)


def _group_norm(
    trace: Trace, func: Any, x: Any, groups: int, weight: Any = None, bias: Any = None, *_rest: Any, **_kw: Any
) -> ChannelLabels | None:
    """With as many groups as channels, each channel is normed by itself; otherwise the channels are pinned."""
    if groups == x.shape[1]:
        return _channel_norm(trace, func, x, weight=weight, bias=bias)
    trace.pin(x.ids, f"a norm over each {x.shape[1] // groups} of its channels")
    return None  # the operation is traced by its parts


def _prelu(trace: Trace, _func: Any, x: ChannelLabels, weight: Tensor) -> ChannelLabels | None:
    """Its weight has one number, or one for each channel, which goes with the channel."""
    if weight.numel() > 1:
        name = trace.tensor_of.get(id(weight))
        channels = trace.channels(x.ids, 1)
        if name is None or channels is None:
            return None
        trace.use(name, 0, channels)
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
    """Record that a layer's rows of its weight, and its biases, belong to these labels."""
    trace.use(f"{layer}.weight", 0, labels)
    if bias is not None:
        trace.use(f"{layer}.bias", 0, labels)


# --- operations between layers. None: not known, so all labels that it reads are pinned. ---


def _pointwise(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
    """Join the labels of combined elements; numbers that depend on no filter pin them, except single numbers."""
    combined = []
    for leaf in tree_leaves((args, kwargs)):
        if isinstance(leaf, ChannelLabels):
            combined.append(leaf.ids)
        elif isinstance(leaf, Tensor) and leaf.numel() > 1:
            combined.append(pinned_labels(leaf.shape))
    note_gate(trace, func, combined)
    for other in combined[1:]:
        trace.join(combined[0], other)
    if works_in_place(func):
        return args[0]

    def fewest_dims(ids: Tensor) -> tuple[int, int]:
        return sum(varies(ids, dim) for dim in range(ids.dim())), -ids.numel()

    passed_on = min(combined, key=fewest_dims)  # of labels that are equal from now on
    shape = torch.broadcast_shapes(*[ids.shape for ids in combined])
    return ChannelLabels(passed_on.expand(shape), trace)


def note_gate(trace: Trace, func: Any, combined: list[Tensor]) -> None:
    """Note the layers of the smaller factor of a product of two as gates of the larger one."""
    if func.overloadpacket not in (aten.mul, aten.mul_) or len(combined) != 2:
        return
    small, large = sorted(combined, key=Tensor.numel)
    if small.numel() < large.numel():
        trace.gates |= trace.layers_of(small) - trace.layers_of(large)


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
    """Change the shape; None if a dim that varies is split, because pruning would move the split."""
    ids = args[0].ids
    shape = on_meta(func, args, kwargs).shape
    for block in blocks(ids.shape, shape):
        is_split = block.sizes_before != block.sizes_after and len(block.sizes_after) > 1
        if is_split and any(varies(ids, dim) for dim in block.dims_before):
            return None
    return ChannelLabels(ids.reshape(shape), trace)


@dataclass(frozen=True)
class ReshapedBlock:
    """Neighbouring dims of a shape, and the dims that a change of shape makes of them: as many elements."""

    dims_before: range
    dims_after: range
    sizes_before: list[int]  # of these dims, without sizes of 1
    sizes_after: list[int]


def blocks(before: torch.Size, after: torch.Size) -> Iterator[ReshapedBlock]:
    """Yield the finest blocks of two shapes that have the same number of elements.

    >>> [(block.sizes_before, block.sizes_after) for block in blocks(torch.Size([2, 6, 5]), torch.Size([2, 2, 3, 5]))]
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


def _cat(trace: Trace, _func: Any, args: Any, _kwargs: Any) -> ChannelLabels | None:
    """Put labels side by side; dims along which none of them vary keep stride 0."""
    parts, dim = concatenated(args)
    shape = list(parts[0].shape)
    shape[dim] = sum(part.shape[dim] for part in parts)
    for other_dim in range(len(shape)):
        if other_dim != dim and not any(varies(part, other_dim) for part in parts):
            parts = [part.narrow(other_dim, 0, 1) for part in parts]
    return ChannelLabels(torch.cat(parts, dim).expand(shape), trace)


def concatenated(args: Any) -> tuple[list[Tensor], int]:
    """The labels of what a concatenation with these arguments puts together, without empty tensors, and its dim."""
    tensors = [tensor for tensor in args[0] if tensor.numel()]
    dim = (args[1] if len(args) > 1 else 0) % tensors[0].dim()
    labels = [tensor.ids if isinstance(tensor, ChannelLabels) else pinned_labels(tensor.shape) for tensor in tensors]
    return labels, dim


def _positions(dims_of: Callable[..., list[int]]) -> Callable[..., Any]:
    """Handler of an operation that reads, drops, adds or reorders positions along the dims that `dims_of` names.

    It returns None, which pins all labels that the operation reads, if labels vary along one of these dims.
    """

    def handler(trace: Trace, func: Any, args: Any, kwargs: Any) -> Any:
        ids = args[0].ids
        result = on_meta(func, args, kwargs)
        dims = sorted({dim % ids.dim() for dim in dims_of(args, kwargs)})
        outputs = tree_leaves(result)
        if func.overloadpacket is aten.slice and outputs[0].shape == ids.shape:
            return ChannelLabels(ids, trace)  # the whole
        if any(varies(ids, dim) for dim in dims):
            return None
        for dim in dims:
            ids = ids.narrow(dim, 0, 1)
        if outputs[0].dim() < ids.dim():
            ids = ids.squeeze(dims)
        return tree_map(lambda output: ChannelLabels(ids.expand(output.shape), trace, dtype=output.dtype), result)

    return handler


def dim_argument(position: int, default: int | None = None) -> Callable[..., list[int]]:
    """A function that returns the dims in an operation's arguments: at a position, or by the name `dim`; else all."""

    def dims_of(args: Any, kwargs: Any) -> list[int]:
        dims = args[position] if len(args) > position else kwargs.get("dim", default)
        if isinstance(dims, int):
            return [dims]
        if not dims:
            return list(range(args[0].dim()))
        return list(dims)

    return dims_of


def _last_two(_args: Any, _kwargs: Any) -> list[int]:
    return [-2, -1]


def _last_three(_args: Any, _kwargs: Any) -> list[int]:
    return [-3, -2, -1]


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
    """The trace of one forward pass of a convolutional network, see `follow`."""
    return follow(model, input_shape, partial(Trace, layers=LAYERS, handlers=HANDLERS))
