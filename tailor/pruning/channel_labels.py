"""Tensors of labels in the place of numbers, and the forward pass of a network on them.

A parameter or buffer with one number for each channel (a learned scale) enters with labels of its own, and goes with
what it meets.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tailor.common.torch_private import tree_leaves, tree_map, without_torch_function, works_in_place, wrapper
from tailor.pruning.dependency_trace import PINNED, Trace

aten = torch.ops.aten
TAKE_NUMBERS = (F.linear,)  # layers whose input may be no label
POINTWISE = "pointwise"  # the handler of each operation on single elements that has none of its own
# Such operations, too, though torch 2.11 does not say so of them.
UNTAGGED = {aten.celu_, aten.elu_, aten.hardsigmoid_, aten.hardtanh_, aten.leaky_relu, aten.leaky_relu_, aten.selu_}


class ChannelLabels(Tensor):
    """A tensor of labels in the place of a tensor of numbers; operations on it make others."""

    ids: Tensor  # int64, of the same shape; dims along which nothing varies have stride 0
    record: Trace
    maker: str | None  # the layer or norm whose output this object is

    @staticmethod
    def __new__(
        cls, ids: Tensor, trace: Trace, maker: str | None = None, dtype: torch.dtype | None = None
    ) -> "ChannelLabels":
        labels: ChannelLabels = wrapper(cls, ids.shape, trace.like, dtype)
        labels.ids = ids
        labels.record = trace
        labels.maker = maker
        return labels

    @classmethod
    def __torch_function__(
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        with without_torch_function():
            if args and isinstance(args[0], ChannelLabels):
                trace = args[0].record
                if func in trace.layers:
                    output = trace.layers[func](trace, func, *args, **kwargs)
                    if output is not None:
                        return output
            return func(*args, **kwargs)

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types it as if it were no class method
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, ChannelLabels)]
        trace = inputs[0].record
        is_pointwise = torch.Tag.pointwise in func.tags or func.overloadpacket in UNTAGGED
        handler = trace.handlers.get(func.overloadpacket)
        if handler is None and is_pointwise:
            handler = trace.handlers[POINTWISE]
        output = None if handler is None else handler(trace, func, args, kwargs)
        if output is None:
            return _unknown(inputs, func, args, kwargs)
        if isinstance(output, ChannelLabels) and not any(labels.dtype.is_floating_point for labels in inputs):
            # Integers, by which something may be looked up.
            output = ChannelLabels(output.ids, trace, dtype=inputs[0].dtype)
        return output


def follow(model: nn.Module, input_shape: tuple[int, ...], kind: Callable[..., Trace]) -> Trace:
    """Run a model once in evaluation mode on labels and return the trace; no weight is read or changed.

    Args:
        model: its modules' attributes, such as the training flags, are restored afterwards.
        kind: makes the trace, which says what the pass understands.
    """
    like = next(model.parameters(), torch.empty(0))
    trace = kind(tensor_of={id(tensor): name for name, tensor in _tensors(model)}, like=like)
    attributes = {module: dict(vars(module)) for module in model.modules()}
    hooks: list[RemovableHandle] = []
    for name, module in model.named_modules():
        hooks += _add_hooks(trace, name, module)
    try:
        images = ChannelLabels(pinned_labels((1, *input_shape)), trace)
        with torch.no_grad(), _Entering(trace):
            result = model.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, before in attributes.items():
            vars(module).clear()
            vars(module).update(before)
    for output in tree_leaves(result):
        if isinstance(output, ChannelLabels):
            trace.pin(output.ids, "the network's output")
    return trace


def _tensors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters, and the buffers that a state has and that can be multiplied with."""
    saved = model.state_dict().keys()
    yield from model.named_parameters()
    for name, buffer in model.named_buffers():
        if name in saved and buffer.is_floating_point():
            yield name, buffer


def _add_hooks(trace: Trace, name: str, module: nn.Module) -> list[RemovableHandle]:
    """Add the hooks that note a module's calls."""
    is_activation = type(module).__module__ == nn.ReLU.__module__ and not list(module.children())

    def begin(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.running.append((name, module))
        trace.calls[name] = trace.calls.get(name, 0) + 1
        if is_activation and inputs and isinstance(inputs[0], ChannelLabels):
            maker = inputs[0].maker
            if maker is not None:
                trace.activation_of.setdefault(maker, name)

    def end(_module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        trace.running.pop()

    return [module.register_forward_pre_hook(begin, prepend=True), module.register_forward_hook(end)]


class _Entering(TorchFunctionMode):
    """Puts labels in place of parameters that the trace follows, and sees layers whose input is no label."""

    def __init__(self, trace: Trace) -> None:
        super().__init__()
        self.trace = trace
        self.layers = trace.layers

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        if func in self.layers:
            if args and isinstance(args[0], ChannelLabels):
                return func(*args, **kwargs)
            output = None
            if func in TAKE_NUMBERS:
                with without_torch_function():
                    output = self.layers[func](self.trace, func, *args, **kwargs)
            return func(*args, **kwargs) if output is None else output
        return func(*tree_map(self._enter, args), **tree_map(self._enter, kwargs))

    def _enter(self, value: Any) -> Any:
        return enter(self.trace, value)


def enter(trace: Trace, value: Any) -> Any:
    """Labels in place of a parameter or buffer that the trace follows; anything else as it is."""
    if not isinstance(value, Tensor):
        return value
    name = trace.tensor_of.get(id(value))
    if name is None or value.numel() <= 1 or not trace.follows(name, value):
        return value
    if name not in trace.loose:
        trace.loose[name] = torch.arange(trace.labels, trace.labels + value.numel()).reshape(value.shape)
        trace.labels += value.numel()
    return ChannelLabels(trace.loose[name], trace)


def pinned_labels(shape: Any) -> Tensor:
    """Labels of what is no filter's output, or has to stay."""
    return torch.full((), PINNED).expand(shape)


def on_meta(func: Any, args: Any, kwargs: Any) -> Any:
    """The result of an operation for tensors of these shapes, without computing it."""

    def empty(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return torch.empty(value.shape, dtype=value.dtype, device="meta")

    without_device = {name: value for name, value in kwargs.items() if name != "device"}
    return func(*tree_map(empty, args), **tree_map(empty, without_device))


def _unknown(inputs: list[ChannelLabels], func: Any, args: Any, kwargs: Any) -> Any:
    """Pin the labels that are read; the result is not a filter's output."""
    trace = inputs[0].record
    for labels in inputs:
        trace.pin(labels.ids, func.overloadpacket.__name__)
    if works_in_place(func):
        return args[0]

    def pinned(output: Any) -> Any:
        if not isinstance(output, Tensor):
            return output
        return ChannelLabels(pinned_labels(output.shape), trace, dtype=output.dtype)

    return tree_map(pinned, on_meta(func, args, kwargs))
