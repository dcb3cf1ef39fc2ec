"""What a user's network does not train (`requires_grad = False`) stays as it is, or the trial is refused.

Gradients never reach such a parameter. A few stages also write into weights: docs/extend.md has a table.
"""

from collections.abc import Iterable
from functools import singledispatch

from torch import nn

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.prepare.listing import some
from tailor.pruning.group_records import Group, members_of
from tailor.stages import Stage

Written = tuple[set[str], str]
"""Names of parameters, and in words what a stage does to them."""

NOTHING: Written = (set(), "")


def refuse_frozen(model: nn.Module, planned: Iterable[Stage], groups: Iterable[Group], method: str) -> None:
    """Raise ConfigError if a stage writes into a parameter that the model does not train.

    Args:
        model: as the user made it.
        planned: the stages of a trial.
        groups: those that can lose filters.
        method: its name, for the message.
    """
    frozen = {name for name, parameter in model.named_parameters() if not parameter.requires_grad}
    if not frozen:
        return
    groups = tuple(groups)
    for stage in planned:
        names, deed = written(stage, model, groups)
        written_frozen = sorted(names & frozen)
        if written_frozen:
            raise ConfigError(
                f"the network does not train {some(written_frozen)} (requires_grad = False), and method "
                f"{method!r} {deed}; train these, exclude their modules (pruning.exclude = [...]), or choose another "
                "method: the table in docs/extend.md says which"
            )


@singledispatch
def written(stage: Stage, model: nn.Module, groups: tuple[Group, ...]) -> Written:  # noqa: ARG001
    """Return the parameters that a stage writes other than by their gradients; most stages write none."""
    return NOTHING


@written.register
def _attach_importance(stage: stages.AttachImportance, _model: nn.Module, groups: tuple[Group, ...]) -> Written:
    if stage.mode in ("off", "grad"):
        return NOTHING
    carriers = []
    for member in members_of(groups):
        if stage.placement == "before_norm":
            carriers.append(member.layer)
        else:
            carriers.append(member.norm or member.layer)
    return _weight_and_bias(carriers), f"multiplies factors into them (beta = {stage.mode!r}; 'grad' and 'off' do not)"


@written.register
def _train_gates(_stage: stages.TrainGates, _model: nn.Module, groups: tuple[Group, ...]) -> Written:
    norms = [member.norm for member in members_of(groups) if member.norm]
    return _weight_and_bias(norms), "trains them as gates"


@written.register
def _fine_tune_softly(_stage: stages.FineTuneSoftly, _model: nn.Module, groups: tuple[Group, ...]) -> Written:
    return {f"{member.layer}.weight" for member in members_of(groups)}, "sets filters to zero"


@written.register
def _shift_means(_stage: stages.ShiftMeans, _model: nn.Module, groups: tuple[Group, ...]) -> Written:
    biases = set()
    for group in groups:
        if group.kind not in ("filters", "heads"):
            continue
        for part in group.slices:
            if part.dim == 1 and not part.loose:  # the inputs of a layer that reads the group's filters
                biases.add(part.tensor.removesuffix(".weight") + ".bias")
    return biases, "with pruning.shift_means writes into the biases"


@written.register
def _find_essential(_stage: stages.FindEssential, model: nn.Module, _groups: tuple[Group, ...]) -> Written:
    matrices = {name for name, parameter in model.named_parameters() if parameter.dim() > 1}
    return matrices, "sets weights to zero"


@written.register
def _reinitialise(_stage: stages.Reinitialise, model: nn.Module, _groups: tuple[Group, ...]) -> Written:
    return {name for name, _ in model.named_parameters()}, "draws all weights again"


@written.register
def _train_source(stage: stages.TrainSource, model: nn.Module, _groups: tuple[Group, ...]) -> Written:
    if not stage.asked_removed_macs_fraction:
        return NOTHING
    return {name for name, _ in model.named_parameters()}, "draws all weights of a narrower network"


def _weight_and_bias(modules: Iterable[str]) -> set[str]:
    return {f"{module}.{part}" for module in modules for part in ("weight", "bias")}
