"""torch.compile for networks whose widths change from stage to stage."""

import os
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from tailor.core.errors import ConfigError
from transtailor.ownership import refuse_shared

# Dropout and stochastic depth draw from the generators that the eager network draws from.
OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}


def check_cache() -> None:
    """Set a cache for compiled code, which torch loads again, that no other user can write to.

    Torch's default is a folder in /tmp with a name that another user may have taken.

    Raises:
        ConfigError: another user owns that folder or can write to it.
    """
    own = f"{tempfile.gettempdir()}/transtailor-inductor-{os.getuid()}"
    folder = Path(os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", own))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_shared((folder,), ConfigError)


def compile_model(model: nn.Module) -> nn.Module:
    """The model, compiled when it runs; equal outputs up to rounding, and the model's own parameters.

    Earlier compiled code is dropped: it is for other widths, and after a few of them torch would silently not compile.
    """
    check_cache()
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(model, options=OPTIONS))


@lru_cache(maxsize=2)
def require_compiler(device: torch.device) -> None:
    """Raise ConfigError unless this machine can compile for `device`, tested on a function of one line."""
    check_cache()
    wanted = os.environ.get("CXX", "g++")
    try:
        torch.compile(torch.sin)(torch.ones(8, device=device))
    except RuntimeError as error:
        path = shutil.which(wanted) or "not found"
        raise ConfigError(
            f"optimisation.compile = true needs a C++ compiler (on GPUs also Triton), and compiling a line failed: "
            f"{str(error).strip().splitlines()[0]} ({wanted}: {path}); install g++ or name one with CXX=..., or set "
            "optimisation.compile = false"
        ) from error
    torch.compiler.reset()
