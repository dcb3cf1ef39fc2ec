"""Groups of which one head, channel or group of a convolution is left, which a trace of the pruned network misses."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import takewhile
from typing import Any

import pytest
import torch
from torch import Tensor

from tailor.data.task_data import generator
from tailor.facts.networks import NETWORKS, NetworkInfo
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.stage_execution.base import StageContext, apply, compute
from tailor.stage_execution.pruning import groups_of
from tailor.stages import AttachImportance, FoldImportance, GroupRule, Placement
from tailor.stages.pruning import BetaMode
from tests.tailor.pruning.test_criteria import state_of
from tests.tailor.small_transformers import Grouped
from tests.tailor.trials import planned_stages, short_trial

TRANSFORMER = GroupRule(residual="coupled", linear=True, stream=True, heads=True)
WHOLE, ALIKE = GroupRule(conv_groups="whole"), GroupRule(conv_groups="alike")


@pytest.fixture(autouse=True)
def grouped() -> Iterator[None]:
    with NETWORKS.borrow(
        "grouped", NetworkInfo(description="", builder=lambda **_: Grouped(), input_shape=(3, 16, 16))
    ):
        yield


def unpruned(network: str) -> ModelState:
    if network != "grouped":
        return state_of(network)
    return ModelState(
        network=network, classes=5, input_shape=(3, 16, 16), tensors=building.build(network, 5, seed=0).state_dict()
    )


def one_of_each(state: ModelState, rule: GroupRule, kind: str) -> ModelState:
    """The state with the last unit alone of each group of a kind."""
    groups = groups_of(state, rule)
    kept = {group.name: torch.tensor([group.filters - 1]) for group in groups if group.kind == kind}
    assert kept
    return surgery.slim(state, kept, groups)


def layers_of(state: ModelState, rule: GroupRule) -> set[tuple[str, ...]]:
    return {(group.kind, *(member.layer for member in group.members)) for group in groups_of(state, rule)}


@pytest.mark.parametrize(
    ("network", "rule", "kind"),
    [
        ("digits_vit", TRANSFORMER, "heads"),
        ("digits_vit", TRANSFORMER, "stream"),
        ("grouped", WHOLE, "conv_groups"),
        ("grouped", ALIKE, "conv_groups"),
    ],
    ids=["heads", "stream", "whole", "alike"],
)
def test_a_pruned_network_has_no_group_that_the_whole_one_has_not(network: str, rule: GroupRule, kind: str) -> None:
    whole = unpruned(network)
    pruned = one_of_each(whole, rule, kind)
    assert layers_of(pruned, rule) < layers_of(whole, rule)
    assert groups_of(pruned, rule)  # others can lose more


@pytest.mark.parametrize("kind", ["heads", "stream"])
@pytest.mark.parametrize(
    ("mode", "placement"),
    [("fold", "before_norm"), ("sqrt", "after_norm"), ("raw", "after_norm"), ("off", "after_norm")],
)
def test_importance_of_a_single_unit_is_attached_and_folded(mode: BetaMode, placement: Placement, kind: str) -> None:
    whole = unpruned("digits_vit")
    draw = generator(1, "scores")
    scores: dict[str, Tensor] = {}
    for group in groups_of(whole, TRANSFORMER):
        scores |= {member.layer: torch.rand(group.filters, generator=draw) + 0.5 for member in group.members}
    pruned = one_of_each(replace(whole, scores=scores), TRANSFORMER, kind)
    how = AttachImportance(
        of=None, rule=TRANSFORMER, mode=mode, normalisation="layer_mean", placement=placement, seed=None
    )
    attached = apply(how, pruned, {})
    assert attached.factors.keys() == (set() if mode == "off" else scores.keys())
    folded = apply(FoldImportance(of=None, rule=TRANSFORMER), attached, {})
    assert not folded.factors
    images = torch.randn(8, 1, 8, 8, generator=draw)
    with torch.no_grad():
        expected = attached.build().eval()(images)
        torch.testing.assert_close(folded.build().eval()(images), expected, rtol=1e-4, atol=1e-5)
        if mode == "fold":
            torch.testing.assert_close(pruned.build().eval()(images), expected, rtol=1e-4, atol=1e-5)


METHODS = (
    {"name": "transtailor", "alpha_epochs": 1, "steps": 1},
    {"name": "prune", "asked_removed_macs_fraction": 0.2, "allocation": {"name": "legr"}},
)


@pytest.mark.parametrize("method", METHODS, ids=["transtailor", "legr"])
def test_a_step_that_finds_no_group_any_more_learns_nothing(method: dict[str, Any], place: StageContext) -> None:
    config = short_trial(method, network="digits_vit", pruning={"heads": True})
    before_surgery = list(takewhile(lambda stage: stage.kind != "prune", planned_stages(config)))
    learnt = [stage for stage in before_surgery if stage.kind in ("train_factors", "score_filters", "learn_ranking")]
    assert len(learnt) == 2
    whole = unpruned("digits_vit")
    state = one_of_each(whole, config.pruning.rule, "heads")
    for stage in learnt:
        output = compute(stage, state, place)
        assert not output.tensors
        state = apply(stage, state, output.tensors)
    assert not state.alpha and not state.scores
