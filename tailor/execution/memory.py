"""Out of memory, explained: which settings decide how much a training needs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tailor.common.errors import TrainingError
from tailor.config.optimisation import Optimisation
from transtailor.lines import first_line


@contextmanager
def memory_explained(optimisation: Optimisation, device: torch.device) -> Iterator[None]:
    """Raise TrainingError with the batch size and what to set, where torch finds no memory on a GPU or on the host.

    >>> with memory_explained(Optimisation(batch_size=64), torch.device("cpu")):
    ...     torch.empty(2**60)
    Traceback (most recent call last):
    tailor.common.errors.TrainingError: out of memory on cpu with optimisation.batch_size = 64 and ...
    """
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
            raise
        batch_size = optimisation.batch_size
        raise TrainingError(
            f"out of memory on {device} with optimisation.batch_size = {batch_size} and accumulation_steps = "
            f"{optimisation.accumulation_steps}; set a smaller batch_size or more accumulation_steps, or let fewer "
            f"trials share a GPU (resources.gpus_per_rank). torch says: {first_line(str(error))}"
        ) from error
