"""The same bits for the same numbers on a GPU, as far as torch has algorithms for it.

torch's fused attention is repeatable only where torch raises an error for everything that is not: with warnings alone
it adds up in any order. So a network with attention is tested once, and differentiated so if torch can.
"""

import copy
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from transtailor.lines import first_line

log = logging.getLogger(__name__)


def use_deterministic_algorithms() -> None:
    """Make this process's GPU give the same bits for the same numbers if torch can; otherwise torch warns.

    Without it, a trial could not be reproduced, and a resumed one would differ from one that was not interrupted.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first use of the GPU
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Filling memory costs time, and no code here reads memory that it did not write.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # public all the same
    torch.backends.cuda.enable_cudnn_sdp(False)  # of torch's attentions the one that is never repeatable


class RepeatableBackward:
    """A context for backward passes of one model, in which its attention is repeatable, too.

    Outside it, and for networks without attention, on a CPU, or where no deterministic algorithms are asked for,
    nothing is changed.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model: nn.Module | None = model if has_attention(model) else None
        self._is_strict: bool | None = None  # not tested yet

    @contextmanager
    def context(self, images: Tensor) -> Iterator[None]:
        """Run the block with repeatable attention; the first of the pass's `images` (B, ...) test the model."""
        is_asked = torch.are_deterministic_algorithms_enabled()
        if self._model is None or not is_asked or images.device.type == "cpu" or len(images) == 0:
            yield
            return
        if self._is_strict is None:
            self._is_strict = is_repeatable(self._model, images[:1])
        with deterministic_algorithms(True, warn_only=not self._is_strict):
            yield


def has_attention(model: nn.Module) -> bool:
    """Whether the class name of any module contains "attention", as in torch, torchvision and timm.

    >>> has_attention(nn.Sequential(nn.MultiheadAttention(8, 2))), has_attention(nn.Linear(8, 2))
    (True, False)
    """
    return any("attention" in type(module).__name__.lower() for module in model.modules())


def is_repeatable(model: nn.Module, images: Tensor) -> bool:
    """Whether torch has a deterministic algorithm for each operation of the model; logs a warning if not.

    A copy of the model is differentiated, to see whether torch raises an error.
    """
    model_copy = copy.deepcopy(model).eval()  # no dropout: the generators of training are left alone
    parameters = [parameter.requires_grad_(True) for parameter in model_copy.parameters()]
    try:
        with deterministic_algorithms(True), torch.enable_grad():
            loss = model_copy(images).float().sum()
            torch.autograd.grad(loss, parameters, allow_unused=True)
    except RuntimeError as error:
        if "determinis" not in str(error):
            raise
        log.warning("repeated trials of this network may differ in last bits: %s", first_line(str(error)))
        return False
    return True


@contextmanager
def deterministic_algorithms(is_asked: bool, *, warn_only: bool = False) -> Iterator[None]:
    """Within the block, use only deterministic algorithms, or any if not `is_asked`; then restore torch's settings."""
    was_asked = torch.are_deterministic_algorithms_enabled()
    was_lenient = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(is_asked, warn_only=warn_only)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(was_asked, warn_only=was_lenient)
