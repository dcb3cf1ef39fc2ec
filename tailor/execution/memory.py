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
        steps = optimisation.accumulation_steps
        more_steps = next((divisor for divisor in range(steps + 1, batch_size) if batch_size % divisor == 0), None)
        advice = "set a smaller batch_size"
        if more_steps is not None:
            advice = (
                f"set accumulation_steps = {more_steps}, which computes a batch in more parts, or a smaller batch_size"
            )
        raise TrainingError(
            f"out of memory on {device} with optimisation.batch_size = {batch_size} and accumulation_steps = {steps}; "
            f"{advice}, or let fewer trials share a GPU (resources.gpus_per_rank). torch says: "
            f"{first_line(str(error))}"
        ) from error
