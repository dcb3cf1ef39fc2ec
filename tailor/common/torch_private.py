"""What `tailor` uses of torch that is not public; no other file may use such a name.

`TORCH` has the names, why each of them is needed, and the version that they were tested with. torch documents most of
them, and has no public names for the same.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from transtailor.garbage import import_uncollected
from transtailor.private_names import PrivateNames

_FORMS = "an operation of the dispatcher that moves channels about"
TORCH = PrivateNames(
    library="torch",
    tried="2.15.0",
    names={
        "torch.nn.modules.batchnorm._BatchNorm": "the base of all kinds of BatchNorm",
        "torch.nn.modules.batchnorm._BatchNorm._check_input_dim": "BatchNorm over ranks takes inputs of any kind",
        "torch.nn.modules.batchnorm._NormBase": "the base of all norms with running statistics",
        "torch.utils._python_dispatch.TorchDispatchMode": "counts the products of a forward pass",
        "torch.utils._pytree.tree_leaves": "the tensors among an operation's arguments",
        "torch.utils._pytree.tree_map": "the tensors among an operation's arguments",
        "torch.UntypedStorage._cdata": "which weight a tensor is a view of, where there is no memory",
        "torch.Tensor._make_wrapper_subclass": "tensors of labels that networks take for numbers",
        "torch._C.DisableTorchFunctionSubclass": "tensors of labels that networks take for numbers",
        "torch._ops.OpOverload.__init__(_schema)": "whether an operation works in place",
        "torch._foreach_lerp_": "the moving average of all weights in one call",
        "torch._dynamo": "imported before the heartbeat of a rank is watched",
        "torch.ops.aten._to_copy": _FORMS,
        "torch.ops.aten._unsafe_view": _FORMS,
        "torch.ops.aten._reshape_alias": _FORMS,
        "torch.ops.aten._adaptive_avg_pool2d": _FORMS,
        "torch.ops.aten._adaptive_avg_pool3d": _FORMS,
        "torch.ops.aten._softmax": "an operation of the dispatcher in attention",
        "torch.ops.aten._trilinear": "the product of nn.Bilinear, which has no other name",
    },
)
try:
    from torch.nn.modules.batchnorm import _BatchNorm, _NormBase
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode
    from torch.utils._pytree import tree_leaves as tree_leaves
    from torch.utils._pytree import tree_map as tree_map

    BatchNormBase = _BatchNorm
    NormBase = _NormBase
    COPY = torch.ops.aten._to_copy
    VIEWS = (torch.ops.aten._unsafe_view, torch.ops.aten._reshape_alias)
    AVERAGE_POOL = torch.ops.aten._adaptive_avg_pool2d
    AVERAGE_POOL_3D = torch.ops.aten._adaptive_avg_pool3d
    SOFTMAX = torch.ops.aten._softmax
    TRILINEAR = torch.ops.aten._trilinear
except (ImportError, AttributeError):
    TORCH.check()  # names the missing one, and what to type
    raise


class UncheckedBatchNorm(BatchNormBase):
    """A BatchNorm that takes features of any shape; the class that it replaces has checked them."""

    def _check_input_dim(self, features: Tensor) -> None: ...


def storage_of(tensor: Tensor) -> int:
    """The same number for all tensors that share their memory, also on `meta`, which has none."""
    return int(tensor.untyped_storage()._cdata)


def wrapper(kind: type[Tensor], shape: Sequence[int], like: Tensor, dtype: torch.dtype | None = None) -> Any:
    """A tensor of the subclass `kind` without memory, with the device of `like`, and its dtype unless one is named."""
    return Tensor._make_wrapper_subclass(kind, shape, dtype=dtype or like.dtype, device=like.device)


def without_torch_function() -> Any:
    """A context in which torch's functions treat tensors of subclasses as plain tensors."""
    return torch._C.DisableTorchFunctionSubclass()


def works_in_place(operation: Any) -> bool:
    """Whether an operation of torch's dispatcher changes an argument."""
    return bool(operation._schema.is_mutable)


def move_towards(averages: list[Tensor], tensors: list[Tensor], share: float) -> None:
    """Move each average by this share of its distance to its tensor, in place."""
    torch._foreach_lerp_(averages, tensors, share)


def import_compiler() -> None:
    """Import torch's compiler front end, as the first optimiser and DDP would."""
    import_uncollected("torch._dynamo")
