"""A GPU that is only pretended: tensors say that they lie on it, and are computed on the CPU.

As on a real one, what lies here and what lies there cannot be combined. So a trial that runs on it moves all that has
to be moved, and says what a trial on the CPU says, to the last bit. Times, memory and torch's own code for GPUs are
not pretended.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
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
        return self.here.tolist()

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


def _computed(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    flat, shape = tree_flatten((args, kwargs))
    given = [one for one in flat if isinstance(one, Tensor)]
    there = [one for one in given if isinstance(one, OnGpu)]
    if there and func not in ACROSS:
        _check_together(func, given)
    is_there = bool(there) if kwargs.get("device") is None else torch.device(kwargs["device"]).type == NAME
    if func is aten.copy_.default:
        is_there = isinstance(args[0], OnGpu)
    wrapper_of = {id(one.here): one for one in there}  # what an operation changes in place stays the same object
    here_args, here_kwargs = tree_unflatten([one.here if isinstance(one, OnGpu) else one for one in flat], shape)
    if "device" in here_kwargs:
        here_kwargs["device"] = CPU if here_kwargs["device"] is not None else None
    here_kwargs.pop("pin_memory", None)
    made = func(*here_args, **here_kwargs)
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
