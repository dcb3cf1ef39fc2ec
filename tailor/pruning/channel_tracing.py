"""Traces which layers read each filter's output: the forward pass is run on labels instead of numbers.

Every output of a convolution or linear layer gets a label. The network's own code is then run on tensors of labels
(`channel_labels`): an operation that moves elements (flatten, concatenation, transposition) moves labels, an operation
that combines two elements (the addition of a skip, a gate) joins their labels (`channel_operations`), and a layer
records which labels it reads at which input. So no architecture needs its own rule:

- What reads a channel at many positions joins the labels of that channel, and so does a concatenation of tokens.
- A parameter that is no layer's weight (position embedding, class token, LayerScale, bias table) enters with a label
  for each element. In the end its labels may differ along one dim, and that dim loses indices.
- LayerNorm passes labels on and notes that its statistics run over these channels.
- A product of activations, or the attention made of two, joins all labels of each head: whole heads go, or none.
- A convolution in groups joins the inputs and outputs of each group, or the places that are alike in all groups, if
  one of these is asked for.
- Where a dim is split or merged (queries, keys and values side by side, each in heads), what goes has to leave a
  rectangle: a grid is noted, and labels that vary along two of its dims in the end are pinned. So are those of a dim
  that the code reads by number.

An operation that is not known, or that would compute something else for the other channels if some were missing, pins
the labels that it reads: their filters have to stay. An unknown operation costs prunable filters, never correctness.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tailor.common.torch_private import NormBase
from tailor.pruning.channel_labels import ChannelLabels, enter, follow, on_meta
from tailor.pruning.channel_operations import HANDLERS, meet_constant
from tailor.pruning.dependency_trace import Product, Trace, compact, core, dims_that_vary, varies
from tailor.stages import ConvGroups

# --- layers and attention, as torch's functions. None: leave it to the operations that they are made of. ---


def _conv(
    trace: Trace, func: Any, x: ChannelLabels, weight: Tensor, bias: Tensor | None = None, *rest: Any, **kw: Any
) -> ChannelLabels | None:
    """A convolution: new labels for its outputs; of a depthwise one those of its inputs."""
    layer, _, kind = trace.tensor_of.get(id(weight), "").rpartition(".")
    is_bias_own = bias is None or trace.tensor_of.get(id(bias)) == f"{layer}.bias"
    if not layer or kind != "weight" or not is_bias_own:
        _note_unread(trace, x)
        return None
    inputs = trace.channels(x.ids, 1)
    groups = len(inputs) // weight.shape[1]
    if groups == 1:
        trace.use(f"{layer}.weight", 1, inputs)
        outputs = trace.outputs(layer, weight.shape[0])
    elif groups == len(inputs):  # depthwise: each output belongs to the filter of its one input
        outputs = inputs.repeat_interleave(weight.shape[0] // len(inputs))
    elif trace.conv_groups == "none":
        trace.unread[layer] = "a grouped convolution"
        trace.pin(inputs, "a grouped convolution")
        return None
    else:
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
            trace.use(f"{layer}.weight", 1, inputs_by_group[0])
        trace.grouped[layer] = torch.cat([inputs, outputs])
    trace.use(f"{layer}.weight", 0, outputs)
    if bias is not None:
        trace.use(f"{layer}.bias", 0, outputs)
    shape = on_meta(func, (x, weight, bias, *rest), kw).shape
    labels = outputs.reshape(1, -1, *[1] * (len(shape) - 2)).expand(shape)
    return ChannelLabels(labels, trace, layer)


def _linear(trace: Trace, func: Any, x: Any, weight: Tensor, bias: Tensor | None = None) -> ChannelLabels | None:
    x = enter(trace, x)
    name = trace.tensor_of.get(id(weight))
    bias_name = None if bias is None else trace.tensor_of.get(id(bias))
    is_bias_known = bias is None or bias_name is not None or isinstance(bias, ChannelLabels)
    if name is None or not is_bias_known:
        if isinstance(x, ChannelLabels):
            _note_unread(trace, x)
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


def _note_unread(trace: Trace, x: ChannelLabels) -> None:
    """Note that the running module's filters stay, since its weight is not its own, and pin what it reads."""
    name, _ = trace.running[-1]
    trace.unread[name] = "its code computes its weight or bias, or they have other names"
    trace.pin(x.ids, f"{name or 'the network'}, whose code computes its weight or bias")


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
    tensors = [tensor for tensor in (weight, bias, running_mean, running_var) if tensor is not None]
    names = [trace.tensor_of.get(id(tensor)) for tensor in tensors]
    if None in names:
        return None
    channels = trace.channels(x.ids, 1)
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
    """One group: as a norm over the channels, which are at dim 1, and over all positions.

    With as many groups as channels, each channel is normed by itself; otherwise the channels are pinned.
    """
    if groups == 1:
        ids = compact(x.ids)
        if dims_that_vary(ids, range(2, ids.dim())):
            return None
        channels_last = ChannelLabels(ids.movedim(1, -1), trace)
        normed = _layer_norm(trace, func, channels_last, (x.shape[1],), weight, bias)
        return None if normed is None else ChannelLabels(normed.ids.movedim(-1, 1), trace)
    if groups == x.shape[1]:
        return _channel_norm(trace, func, x, weight=weight, bias=bias)
    trace.pin(x.ids, f"a norm over each {x.shape[1] // groups} of its channels")
    return None


def _layer_norm(
    trace: Trace,
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


def _rms_norm(trace: Trace, func: Any, x: Any, shape: Any, weight: Any = None, eps: Any = None) -> Any:
    return _layer_norm(trace, func, x, shape, weight, None, eps)


def _prelu(trace: Trace, _func: Any, x: ChannelLabels, weight: Tensor) -> ChannelLabels | None:
    """Its weight has one number, or one for each channel, which goes with the channel."""
    if weight.numel() > 1:
        name = trace.tensor_of.get(id(weight))
        if name is None:
            return None
        trace.use(name, 0, trace.channels(x.ids, 1))
    return ChannelLabels(x.ids, trace)


def _attention(
    trace: Trace, func: Any, query: Any, key: Any, value: Any, *others: Any, **named: Any
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
        meet_constant(trace, heads, mask)
    shape = on_meta(func, (query, key, value, *others), named).shape
    # Queries times keys, and the weights that they give times values.
    macs_per_head = query.shape[-2] * key.shape[-2] * (query.shape[-1] + value.shape[-1])
    _note_product(trace, heads, math.prod(shape[:-2]) * macs_per_head)
    return ChannelLabels(heads.expand(shape), trace)


def _matmul(trace: Trace, func: Any, x: Any, y: Any) -> ChannelLabels | None:
    heads = _joined_heads(trace, [x, y])
    if heads is None:
        return None
    shape = on_meta(func, (x, y), {}).shape
    _note_product(trace, heads, math.prod(shape) * x.shape[-1])
    return ChannelLabels(heads.expand(shape), trace)


def _joined_heads(trace: Trace, parts: list[Any]) -> Tensor | None:
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


def _note_product(trace: Trace, labels: Tensor, macs: int, *, has_heads: bool = True) -> None:
    """Note a product of so many MACs in all, equally many for each label that differs."""
    labels = core(labels)
    trace.products.append(Product(each=labels.flatten(), macs=macs // labels.numel(), has_heads=has_heads))


LAYERS: dict[Any, Callable[..., Any]] = {
    F.conv1d: _conv,
    F.conv2d: _conv,
    F.conv3d: _conv,
    F.linear: _linear,
    F.batch_norm: _channel_norm,
    F.instance_norm: _channel_norm,
    F.group_norm: _group_norm,
    F.layer_norm: _layer_norm,
    F.rms_norm: _rms_norm,
    F.prelu: _prelu,
    F.scaled_dot_product_attention: _attention,
    **dict.fromkeys((torch.matmul, Tensor.matmul, Tensor.__matmul__, torch.bmm, Tensor.bmm), _matmul),
}
"""torch's function -> what reads it here, of the trace, the function and its arguments."""


def follow_channels(model: nn.Module, input_shape: tuple[int, ...], conv_groups: ConvGroups = "none") -> Trace:
    """The trace of one forward pass, see `follow`."""
    return follow(model, input_shape, partial(Trace, layers=LAYERS, handlers=HANDLERS, conv_groups=conv_groups))
