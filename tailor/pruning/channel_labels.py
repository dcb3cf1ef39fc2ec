"""Tensors of labels in the place of numbers, and the forward pass of a network on them.

A parameter or buffer with one number for each channel (a learned scale) enters with labels of its own, and goes with
what it meets.
"""

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils.hooks import RemovableHandle

from tailor.core.torch_private import tree_leaves, tree_map, without_torch_function, works_in_place, wrapper
from tailor.pruning.dependency_trace import PINNED, Trace

aten = torch.ops.aten
T = TypeVar("T", bound=Trace)
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
        made: ChannelLabels = wrapper(cls, ids.shape, trace.like, dtype)
        made.ids, made.record, made.maker = ids, trace, maker
        return made

    @classmethod
    def __torch_function__(
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        with without_torch_function():
            if args and isinstance(args[0], ChannelLabels):
                layer = args[0].record.layers.get(func)
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
        handlers = trace.handlers
        is_pointwise = torch.Tag.pointwise in func.tags or func.overloadpacket in UNTAGGED
        handler = handlers.get(func.overloadpacket, handlers[POINTWISE] if is_pointwise else None)
        made = handler(trace, func, args, kwargs or {}) if handler is not None else None
        if made is None:
            return _unknown(given, func, args, kwargs or {})
        if isinstance(made, ChannelLabels) and not any(labels.dtype.is_floating_point for labels in given):
            made = ChannelLabels(made.ids, trace, dtype=given[0].dtype)  # integers, by which something may be looked up
        return made


def follow(model: nn.Module, input_shape: tuple[int, ...], kind: Callable[..., T]) -> T:
    """The trace of one forward pass of a model in evaluation mode; no weight is read or changed.

    Args:
        model: its modules' attributes, such as the training flags, are restored afterwards.
        kind: of the trace, which says what the pass understands.
    """
    like = next(model.parameters(), torch.empty(0))
    trace = kind(tensor_of={id(tensor): name for name, tensor in _tensors(model)}, like=like)
    attributes = {module: dict(vars(module)) for module in model.modules()}
    hooks = [hook for name, module in model.named_modules() for hook in _hooks(trace, name, module)]
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


def _hooks(trace: Trace, name: str, module: nn.Module) -> Iterator[RemovableHandle]:
    """Add the hooks that note a module's calls."""
    is_activation = type(module).__module__ == nn.ReLU.__module__ and not list(module.children())

    def begin(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        trace.running.append((name, module))
        trace.calls[name] = trace.calls.get(name, 0) + 1
        x = next(iter(inputs), None)
        if is_activation and isinstance(x, ChannelLabels) and x.maker is not None:
            trace.activation_of.setdefault(x.maker, name)

    def end(_module: nn.Module, _inputs: tuple[Any, ...], _output: Any) -> None:
        trace.running.pop()

    yield module.register_forward_pre_hook(begin, prepend=True)
    yield module.register_forward_hook(end)


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
            with without_torch_function():
                made = self.layers[func](self.trace, func, *args, **kwargs) if func in TAKE_NUMBERS else None
            return func(*args, **kwargs) if made is None else made
        return func(*tree_map(self._enter, args), **tree_map(self._enter, kwargs))

    def _enter(self, value: Any) -> Any:
        return enter(self.trace, value)


def enter(trace: Trace, value: Any) -> Any:
    """Labels in place of a parameter or buffer that the trace follows; anything else as it is."""
    name = trace.tensor_of.get(id(value)) if isinstance(value, Tensor) else None
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

    return func(*tree_map(empty, args), **{k: v for k, v in tree_map(empty, kwargs).items() if k != "device"})


def _unknown(given: list[ChannelLabels], func: Any, args: Any, kwargs: Any) -> Any:
    """Pin the labels that are read; the result is not a filter's output."""
    for labels in given:
        labels.record.pin(labels.ids, func.overloadpacket.__name__)
    if works_in_place(func):
        return args[0]
    trace = given[0].record
    return tree_map(
        lambda made: (
            ChannelLabels(pinned_labels(made.shape), trace, dtype=made.dtype) if isinstance(made, Tensor) else made
        ),
        on_meta(func, args, kwargs),
    )
