"""Scores of different layers: compared as they are, or by what is small within each; and the defaults."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

import tailor
from tailor.common.errors import ConfigError
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.pruning.budget_solver import combine_scores
from tailor.pruning.criteria import CRITERIA, Criterion
from tailor.pruning.criteria.base import Scoring
from tailor.pruning.group_records import Group, GroupMember
from tailor.stages import Prune, PruneByTable
from tests.tailor.trials import planned_stages, short_trial

IMAGE = torch.zeros(1, 3, 8, 8)
Run = Callable[..., list[StageEvent]]
TABLE = {"table": "table.json", "table_sha256": "0" * 64}
OF_WEIGHTS = ("fpgm", "l1", "l2", "l2_squared")


def network(scale: float) -> nn.Module:
    """Two layers that can lose filters, the second with weights that are `scale` times as large, and a last one."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 16, 3), nn.ReLU(), nn.Conv2d(16, 4, 3)]
    with torch.no_grad():
        layers[2].weight.mul_(scale)  # type: ignore[operator]
    return nn.Sequential(*layers)


def kept_filters(scale: float, **settings: Any) -> list[tuple[int, ...]]:
    pruned = tailor.prune(network(scale), IMAGE, asked_removed_macs_fraction=0.4, width_multiple=1, **settings)
    return [group.kept for group in pruned.groups]


@pytest.mark.parametrize("criterion", OF_WEIGHTS)
@pytest.mark.parametrize("allocation", ["global", "knapsack"])
def test_the_scale_of_a_layers_weights_does_not_decide(criterion: str, allocation: str) -> None:
    settings = {"criterion": criterion, "allocation": allocation}
    normalised = kept_filters(1000.0, **settings)
    assert normalised == kept_filters(1.0, **settings)
    as_they_are = kept_filters(1000.0, **settings, normalisation="none")
    assert len(normalised[1]) < 16 == len(as_they_are[1])  # without it the layer with larger weights loses no filter


def test_scores_are_divided_by_the_mean_of_their_absolute_values() -> None:
    groups = tuple(Group(members=(_member(name),), filters=2, slices=()) for name in ("a", "b", "zeros"))
    scores = {"a": torch.tensor([1.0, 3.0]), "b": torch.tensor([-10.0, 30.0]), "zeros": torch.zeros(2)}
    ranking = combine_scores(scores, groups, "sum", "mean")
    assert {name: values.tolist() for name, values in ranking.items()} == {
        "a": [0.5, 1.5],
        "b": [-0.5, 1.5],  # the order stays, whatever the signs
        "zeros": [0.0, 0.0],
    }
    plain = combine_scores(scores, groups, "sum")
    assert all(torch.equal(plain[name], scores[name]) for name in scores)


def _member(layer: str) -> GroupMember:
    return GroupMember(layer=layer, norm=None, activation=None, activation_kind=None)


def test_criteria_of_weights_alone_are_normalised_by_default_and_no_others() -> None:
    assert tuple(sorted(name for name in CRITERIA if CRITERIA[name].normalisation == "mean")) == OF_WEIGHTS


@pytest.mark.parametrize(
    ("method", "normalisation"),
    [
        ({}, "none"),  # taylor
        ({"criterion": "l1"}, "mean"),
        ({"criterion": "l1", "steps": 2}, "mean"),
        ({"criterion": "l1", "normalisation": "none"}, "none"),
        ({"criterion": "taylor", "normalisation": "mean"}, "mean"),
        ({"criterion": "l1", "allocation": "knapsack"}, "mean"),
        ({"criterion": "l1", "allocation": "by_kind"}, "mean"),
        ({"criterion": "l1", "allocation": "uniform"}, "none"),  # which does not compare layers
        ({"criterion": "l2_squared", "allocation": "legr"}, "none"),  # which scales each layer itself
        ({"criterion": "l1", "allocation": {"name": "latency", "asked_latency_fraction": 0.5} | TABLE}, "mean"),
    ],
)
def test_the_surgery_of_a_trial_is_normalised(method: dict[str, Any], normalisation: str) -> None:
    stages = planned_stages(short_trial({"name": "prune"} | method))
    surgeries = [stage for stage in stages if isinstance(stage, Prune | PruneByTable)]
    assert {stage.normalisation for stage in surgeries} == {normalisation}


def test_the_arm_says_what_differs_from_the_default() -> None:
    labels = [
        short_trial({"name": "prune"} | method).method.label()
        for method in ({}, {"criterion": "l1"}, {"criterion": "l1", "normalisation": "none"}, {"normalisation": "mean"})
    ]
    assert labels == ["prune taylor", "prune l1", "prune l1 not normalised", "prune taylor normalised"]


def test_a_normalisation_without_effect_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="normalisation = 'mean' .* an allocation that compares the scores of different layers"
    ):
        short_trial({"name": "prune", "criterion": "l1", "normalisation": "mean", "allocation": "uniform"})


def test_without_data_the_result_says_that_nothing_of_the_task_was_used() -> None:
    pruned = tailor.prune(network(1.0), IMAGE, criterion="l2", asked_removed_macs_fraction=0.4, width_multiple=1)
    assert "chosen without your task" in str(pruned)


def test_without_data_no_criterion_is_the_default() -> None:
    with pytest.raises(ConfigError, match="criterion 'taylor' reads data; give loader = .*'l2'"):
        tailor.prune(network(1.0), IMAGE, asked_removed_macs_fraction=0.4)


def test_with_data_the_task_decides() -> None:
    targets = torch.full((4, 4, 2, 2), 0.5)
    model = network(1.0)
    loader = [(torch.randn(4, 3, 8, 8), targets)]
    pruned = tailor.prune(model, IMAGE, asked_removed_macs_fraction=0.4, loader=loader, loss=torch.nn.MSELoss())
    assert pruned.criterion == "taylor" == short_trial({"name": "prune"}).method.criterion  # type: ignore[attr-defined]
    assert "chosen without your task" not in str(pruned)


def test_a_users_criterion_may_give_coupled_layers_one_tensor(run: Run, shared_cache: Cache) -> None:
    def alike(scoring: Scoring) -> dict[str, torch.Tensor]:
        scores: dict[str, torch.Tensor] = {}
        for group in scoring.found:
            scores |= dict.fromkeys((member.layer for member in group.members), torch.arange(1.0, group.filters + 1))
        return scores

    with CRITERIA.borrow("alike", Criterion(compute=alike, source="a test")):
        method = {"name": "prune", "criterion": "alike", "asked_removed_macs_fraction": 0.2}
        events = run(short_trial(method, network="digits_resnet", pruning={"residual": "coupled"}), shared_cache)
    assert events[-1].point == 0
