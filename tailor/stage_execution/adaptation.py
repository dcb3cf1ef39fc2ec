"""The surgery of target-aware network adaptation."""

import logging
from dataclasses import asdict

import tailor.stages as stages
from tailor.common.errors import ConfigError
from tailor.model import cost
from tailor.model.cost import macs_of
from tailor.model.state import ModelState
from tailor.pruning import adaptation_rules, budget_solver, surgery
from tailor.stage_execution.base import StageContext, StageOutput, compute
from tailor.stage_execution.pruning import groups_of, surgery_output

log = logging.getLogger(__name__)


@compute.register
def compute_prune_by_cumulative_sum(
    stage: stages.PruneByCumulativeSum, parent: ModelState, _context: StageContext
) -> StageOutput:
    groups = groups_of(parent, stage.rule)
    if not groups:
        raise ConfigError(
            f"no layer of {parent.network} can lose filters with pruning.residual = {stage.rule.residual!r} and "
            f"pruning.linear = {str(stage.rule.linear).lower()}; set pruning.linear = true or residual = 'coupled'"
        )
    ranking = budget_solver.combine_scores(parent.scores, groups, stage.grouping)
    minimum = budget_solver.minimums(parent, groups, stage.minimum_filters_fraction)
    cuts = adaptation_rules.cut_layers(layers_of(parent, groups, ranking, minimum), stage.cut)
    if not any(cut.removed for cut in cuts):
        nearest = min(cuts, key=lambda cut: max(cut.kept_by_rule, minimum[cut.name]) / cut.filters)
        log.warning(
            "no filter can be removed: no layer has one beyond its cumulative sum and its minimum; nearest is %s: of "
            "its %d filters the sum keeps %d and the minimum %d",
            nearest.name,
            nearest.filters,
            nearest.kept_by_rule,
            minimum[nearest.name],
        )
    removed = {cut.name: cut.removed for cut in cuts}
    kept = budget_solver.lowest_in_each(groups, removed, ranking)
    return surgery_output(parent, kept, groups, None, {"layers": [asdict(cut) for cut in cuts]})


def layers_of(
    state: ModelState, groups: tuple[surgery.Group, ...], ranking: budget_solver.Ranking, minimum: budget_solver.Minimum
) -> list[adaptation_rules.Layer]:
    """The groups as the rule reads them; the MACs of a group are those of its members at their present widths."""
    shapes = {name: tensor.shape for name, tensor in state.tensors.items()}
    macs_by_weight = cost.macs_by_layer(state.network, state.classes, shapes, state.input_shape)
    model_macs = macs_of(state)
    layers = []
    for group in groups:
        group_macs = sum(macs_by_weight[f"{member.layer}.weight"] for member in group.members)
        layers.append(
            adaptation_rules.Layer(
                name=group.name,
                statistics=ranking[group.name].tolist(),
                macs_fraction=group_macs / model_macs,
                minimum=minimum[group.name],
            )
        )
    return layers
