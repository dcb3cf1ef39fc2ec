"""Computes the stages, one file per subject as in `tailor.stages`; importing this package registers them all."""

from tailor.stage_execution import adaptation, compensation, legr, pac_net, preparing, pruning, schemes, tuning
from tailor.stage_execution.base import StageContext, StageOutput, Tensors, apply, compute
