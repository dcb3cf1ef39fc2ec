"""What the kinds of stages do, one file per subject as in `tailor.stages`; importing this registers them all."""

from tailor.steps import adaptation, attention, legr, pac_net, preparing, pruning, schemes, tuning
from tailor.steps.base import Made, Tensors, Workplace, apply, compute

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
