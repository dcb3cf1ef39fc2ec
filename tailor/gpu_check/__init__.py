"""Whether this program computes on a GPU what it computes on the CPU: the checks of `check-gpu`."""

from tailor.gpu_check.processes import check_ranks, check_visible
from tailor.gpu_check.row import Check
from tailor.gpu_check.training import check_memory, check_optimisers, check_placement, check_precision, check_waits
from tailor.gpu_check.trials import check_methods, check_resumption

CHECKS: tuple[Check, ...] = (
    check_methods, check_resumption, check_precision, check_optimisers, check_placement, check_waits, check_memory,
    check_ranks, check_visible,
)  # fmt: skip
