"""What the kinds of stages do, one file per subject as in `tailor.stages`; importing this registers them all."""

from tailor.stage_execution import adaptation, attention, legr, pac_net, preparing, pruning, schemes, tuning
from tailor.stage_execution.base import Made, Tensors, Workplace, apply, compute

__all__ = [
    "Made",
    "Tensors",
    "Workplace",
    "adaptation",
    "apply",
    "attention",
    "compute",
    "legr",
    "pac_net",
    "preparing",
    "pruning",
    "schemes",
    "tuning",
]
