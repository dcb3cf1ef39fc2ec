"""torch.compile for networks whose widths change from stage to stage."""

import os
import shutil
from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

import torch
from torch import nn

from tailor.core.errors import ConfigError

# Dropout and stochastic depth draw from the generators that the eager network draws from.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}


def compiled(model: nn.Module) -> nn.Module:
    """The model, compiled when it runs; equal outputs up to rounding, and the model's own parameters.

    What was compiled before is forgotten: it belongs to other widths, and after a few of them torch would silently run
    a network as it is.
    """
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(model, options=OPTIONS))


@lru_cache(maxsize=2)
def require_compiler(device: torch.device) -> None:
    """Return if this machine can compile for `device`; tried on a function of one line.

    Raises:
        ConfigError: it cannot; the text names what is missing.
    """
    wanted = os.environ.get("CXX", "g++")
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        found = shutil.which(wanted) or "not found"
        raise ConfigError(
            f"optimisation.compile = true needs a C++ compiler (on GPUs Triton, too), and compiling a line failed: "
            f"{str(error).strip().splitlines()[0]} ({wanted}: {found}); install g++ or name one with CXX=..., or set "
            "optimisation.compile = false"
        ) from error
    torch.compiler.reset()
