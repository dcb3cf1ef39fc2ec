"""What a user's network does not train (`requires_grad = False`) stays as it is, or the trial is refused.

Gradients never reach such a parameter. A few stages also write into weights: docs/extend.md has a table.
"""

from collections.abc import Iterable

from torch import nn

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.common.texts import some
from tailor.pruning.group_records import Group, members_of
from tailor.stages import Stage


def refuse_frozen(model: nn.Module, planned: Iterable[Stage], groups: Iterable[Group], method: str) -> None:
    """Raise ConfigError if a stage writes into a parameter that the model does not train.

    Args:
        model: as the user made it.
        planned: the stages of a trial.
        groups: those that can lose filters.
        method: its name, for the message.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    groups = tuple(groups)
    for stage in planned if frozen else ():
        written_frozen = sorted(_written(stage, model, groups) & frozen)
        if written_frozen:
            raise ConfigError(
                f"the network does not train {some(written_frozen)} (requires_grad = False), and method {method!r} "
                f"writes into them in its stage {stage.kind!r}; train these, exclude their modules (pruning.exclude = "
                "[...]), or choose another method: the table in docs/extend.md says which"
            )


def _written(stage: Stage, model: nn.Module, groups: tuple[Group, ...]) -> set[str]:
    """Return the names of the parameters that a stage writes other than by their gradients; most stages write none."""
    members = members_of(groups)
    if isinstance(stage, stages.AttachImportance) and stage.mode not in ("off", "grad"):
        is_before = stage.placement == "before_norm"
        carriers = {member.layer if is_before else member.norm or member.layer for member in members}
        return {f"{module}.{part}" for module in carriers for part in ("weight", "bias")}
    if isinstance(stage, stages.TrainGates):
        return {f"{member.norm}.{part}" for member in members if member.norm for part in ("weight", "bias")}
    if isinstance(stage, stages.FineTuneSoftly):
        return {f"{member.layer}.weight" for member in members}
    if isinstance(stage, stages.ShiftMeans):
        slices = [part for group in groups if group.kind in ("filters", "heads") for part in group.slices]
        # The inputs of a layer that reads the group's filters.
        readers = [part.tensor for part in slices if part.dim == 1 and not part.loose]
        return {tensor.removesuffix(".weight") + ".bias" for tensor in readers}
    if isinstance(stage, stages.FindEssential):
        return {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    if isinstance(stage, stages.Reinitialise) or (
        isinstance(stage, stages.TrainSource) and stage.asked_removed_macs_fraction
    ):
        return {name for name, _ in model.named_parameters()}
    return set()
