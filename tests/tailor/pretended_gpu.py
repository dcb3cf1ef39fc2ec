"""A GPU that is only pretended: tensors say that they lie on it, and are computed on the CPU.

As on a real one, what lies here and what lies there cannot be combined. So a trial that runs on it moves all that has
to be moved, and says what a trial on the CPU says, to the last bit. Times, memory and torch's own code for GPUs are
not pretended.

It also knows what the host of a real one waits for, and which function of the product asks for it.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import CodeType
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

from tailor.parallel.process_group import ProcessGroup

aten = torch.ops.aten
NAME = "pretended"
CPU = torch.device("cpu")
ACROSS = {aten.copy_.default, aten._to_copy.default}  # what moves from one device to the other
INDEXED = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}
# What the host waits for: results whose size or value it has to know.
WAITED_FOR = {
    "_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "bincount", "_unique", "_unique2",
    "unique_dim", "unique_consecutive", "repeat_interleave", "linalg_svd", "_linalg_svd", "linalg_svdvals",
}  # fmt: skip
TAILOR = str(Path(__file__).parents[2] / "tailor")


class OnGpu(Tensor):
    """A tensor that says it lies on the GPU; `here` holds its numbers."""

    here: Tensor

    @staticmethod
    def __new__(cls, here: Tensor) -> "OnGpu":
        made: OnGpu = Tensor._make_wrapper_subclass(
            cls,
            here.size(),
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            layout=here.layout,
            device=torch.device(NAME, 0),
        )
        made.here = here
        return made

    def tolist(self) -> Any:
        """As a GPU's tensors give it; torch refuses it to classes of one's own."""
        _note("tolist")
        return self.here.tolist()

    def __repr__(self, *_: Any, **__: Any) -> str:
        """As a GPU's tensors are printed: their numbers are fetched."""
        _note("printing")
        return f"{self.here!r} on {NAME}"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch types it as if it were no class method
        cls, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {})


class _Pretending(TorchDispatchMode):
    def __torch_dispatch__(  # type: ignore[override]
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {})


@contextmanager
def pretended_gpu() -> Iterator[ProcessGroup]:
    """One rank on the device, until it is left; this process knows of the device for good."""
    if torch._C._get_privateuse1_backend_name() != NAME:
        backend_registration._setup_privateuseone_for_python_backend(NAME)
    memory = {"mem_get_info": (10**9, 10**9), "memory_reserved": 0, "memory_allocated": 0}
    with ExitStack() as stack:
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)  # of `torch.tensor(..., device=...)`, too, the move is seen
        for name, bytes_there in memory.items():
            stack.enter_context(mock.patch(f"torch.cuda.{name}", return_value=bytes_there))
        stack.enter_context(torch.autograd.set_multithreading_enabled(False))  # there is no thread for the device
        stack.enter_context(_Pretending())
        yield ProcessGroup(rank=0, world_size=1, device=torch.device(NAME, 0))


_noted: list[tuple[CodeType, list[tuple[str, str]]]] = []


@contextmanager
def waits_within(function: Any) -> Iterator[list[tuple[str, str]]]:
    """What the host waits for while `function` runs: the operation, and the function of `tailor` that asks for it."""
    found: list[tuple[str, str]] = []
    _noted.append((function.__code__, found))
    try:
        yield found
    finally:
        _noted.pop()


def _note(operation: str) -> None:
    """Note that the host waits, if that is asked for and the function is among those that run."""
    if not _noted:
        return
    within, found = _noted[-1]
    frame, asking = sys._getframe(1), None
    while frame is not None:
        code = frame.f_code
        if asking is None and code.co_filename.startswith(TAILOR):
            asking = f"{Path(code.co_filename).stem}.{code.co_qualname}"
        if code is within:
            found.append((operation, asking or "not tailor"))
            return
        frame = frame.f_back  # type: ignore[assignment]


def _waits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the host waits for an operation with tensors on the GPU."""
    if func in INDEXED:
        return any(isinstance(one, Tensor) and one.dtype == torch.bool for one in args[1])
    if func not in ACROSS:
        return func.overloadpacket.__name__ in WAITED_FOR
    given = args[1] if func is aten.copy_.default else args[0]
    if func is aten.copy_.default:
        goes_there = isinstance(args[0], OnGpu)
    elif kwargs.get("device") is None:
        return False  # only another type or layout
    else:
        goes_there = _is_there(kwargs["device"])
    if isinstance(given, OnGpu) == goes_there:
        return False
    is_free = kwargs.get("non_blocking", False) or (func is aten.copy_.default and args[2:3] == (True,))
    return not (is_free and goes_there and getattr(given, "pinned", False))


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type == NAME


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    flat, shape = tree_flatten((args, kwargs))
    given = [one for one in flat if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, OnGpu)]
    if there and func not in ACROSS:
        _check_together(func, given)
    is_there = bool(there) if kwargs.get("device") is None else _is_there(kwargs["device"])
    if func is aten.copy_.default:
        is_there = isinstance(args[0], OnGpu)
    if (there or is_there) and _waits(func, args, kwargs):
        _note(func.overloadpacket.__name__)
    wrapper_of = {id(one.here): one for one in there}  # what an operation changes in place stays the same object
    here_args, here_kwargs = tree_unflatten([one.here if isinstance(one, OnGpu) else one for one in flat], shape)
    if "device" in here_kwargs:
        here_kwargs["device"] = CPU if here_kwargs["device"] is not None else None
    is_pinned = here_kwargs.pop("pin_memory", None)
    made = func(*here_args, **here_kwargs)
    if is_pinned:
        made.pinned = True
    if not is_there:
        return made

    def wrapped(one: Any) -> Any:
        if not isinstance(one, Tensor):
            return one
        return wrapper_of[id(one)] if id(one) in wrapper_of else OnGpu(one)

    return tree_map(wrapped, made)


def _check_together(func: Any, given: list[Tensor]) -> None:
    """Refuse what a GPU refuses: numbers that lie elsewhere, but for single ones and for places to look at."""
    looked_at = given[:1] if func in INDEXED else given
    elsewhere = [one for one in looked_at if not isinstance(one, OnGpu) and one.dim() > 0]
    if elsewhere:
        raise RuntimeError(f"{func}: expected all tensors to be on one device, found {NAME} and {CPU}")
