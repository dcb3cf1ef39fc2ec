"""torch.compile for networks whose widths change from stage to stage."""

import os
import shutil
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, cast

import torch
from torch import Tensor, nn

from tailor.common.compiler_cache import check_cache
from tailor.common.errors import ConfigError
from transtailor.lines import first_line

MOST_KINDS = 4  # torch keeps code for eight variants of a function, and a kind may have two
_kept_kinds: set[int] = set()
# Dropout and stochastic depth draw from the generators that the eager network draws from.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}


class CompiledModel(nn.Module):
    """A model that runs compiled for batches of some sizes, and as it is for all others.

    So the short last batch of an epoch compiles nothing, and a step gives the same bits wherever a process began.

    Args:
        model: its parameters are trained; outputs are equal up to rounding.
        sizes: of the batches that are compiled for, in images.
    """

    def __init__(self, model: nn.Module, sizes: Collection[int]) -> None:
        super().__init__()
        self.model = model
        self._sizes = sizes
        # In a tuple, so that torch does not count it as a second child: it has the same parameters.
        self._compiled = (compile_model(model),)

    def forward(self, images: Tensor) -> Tensor:
        """Return the model's outputs (B, K)."""
        module = self._compiled[0] if len(images) in self._sizes else self.model
        outputs: Tensor = module(images)
        return outputs


def compile_model(model: nn.Module) -> nn.Module:
    """Return the model, compiled when it runs; equal outputs up to rounding, and the model's own parameters.

    Code is kept for later models of the same kind, such as the unpruned network of the next trial. Before there are
    more kinds than torch keeps, all of it is dropped: beyond them, torch would silently not compile.
    """
    check_cache()
    kind = _kind_of(model)
    if kind not in _kept_kinds and len(_kept_kinds) == MOST_KINDS:
        torch.compiler.reset()
        _kept_kinds.clear()
    _kept_kinds.add(kind)
    return cast(nn.Module, torch.compile(model, options=OPTIONS, dynamic=False))


def _kind_of(model: nn.Module) -> int:
    """Return a hash of what the compiled code depends on: layers, widths, modes, and what is trained."""
    tensors = [(name, tensor.shape, tensor.dtype, tensor.device) for name, tensor in model.state_dict().items()]
    trained = [parameter.requires_grad for parameter in model.parameters()]
    modules = [(name, type(module), module.training) for name, module in model.named_modules()]
    return hash((*tensors, *trained, *modules))


@lru_cache(maxsize=2)
def require_compiler(device: torch.device) -> None:
    """Raise ConfigError unless this machine can compile for `device`, tested on a function of one line."""
    check_cache()
    compiler = os.environ.get("CXX", "g++")
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        path = shutil.which(compiler) or "not found"
        raise ConfigError(
            f"optimisation.compile = true needs a C++ compiler (on GPUs also Triton), and compiling a line failed: "
            f"{first_line(str(error))} ({compiler}: {path}); install g++ or name one with CXX=..., or set "
            "optimisation.compile = false"
        ) from error
    torch.compiler.reset()
