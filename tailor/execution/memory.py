"""Out of memory, explained: which settings decide how much a training needs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tailor.config.optimisation import Optimisation
from tailor.core.errors import TrainingError
from transtailor.lines import first_line


@contextmanager
def memory_explained(optimisation: Optimisation, device: torch.device) -> Iterator[None]:
    """Raise TrainingError with the batch size and what to set, where torch finds no memory on a GPU or on the host.

    >>> with memory_explained(Optimisation(batch_size=64), torch.device("cpu")):
    ...     torch.empty(2**60)
    Traceback (most recent call last):
    tailor.core.errors.TrainingError: out of memory on cpu with optimisation.batch_size = 64 and ...
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        size, parts = optimisation.batch_size, optimisation.accumulation_steps
        more = next((n for n in range(parts + 1, size) if size % n == 0), None)
        finer = "" if more is None else f"accumulation_steps = {more}, which computes a batch in more parts, or "
        raise TrainingError(
            f"out of memory on {device} with optimisation.batch_size = {size} and accumulation_steps = {parts}; set "
            f"{finer}a smaller batch_size, or let fewer trials share a GPU (resources.gpus_per_rank). torch says: "
            f"{first_line(str(error))}"
        ) from error
