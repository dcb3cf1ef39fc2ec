"""A budget in MACs met by the knapsack: its terms against networks that are really slimmed, and trials."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.execution.cache import Cache
from tailor.execution.runner import StageEvent
from tailor.facts.widths import WidthRule
from tailor.model.cost import macs_of, original_macs
from tailor.model.state import ModelState
from tailor.networks import building
from tailor.pruning import surgery
from tailor.pruning.budget_solver import Budget, Ranking, lowest_of_all, minimums
from tailor.pruning.group_records import Group
from tailor.pruning.groups import groups
from tailor.pruning.knapsack_budget import MOST_WIDTHS, knapsack, macs_terms, spread, widths_of
from tailor.stages import GroupRule
from tests.tailor.trials import short_trial

Run = Callable[..., list[StageEvent]]
COUPLED = GroupRule(residual="coupled", linear=True)
EMBEDDED = {"digits_vgg": (1, 8, 8), "digits_vgg_bn": (1, 8, 8), "digits_resnet": (1, 8, 8), "friedman_mlp": (10,)}
LARGE = ("vgg11", "resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_small", "efficientnet_b0", "densenet121",
         "googlenet", "regnet_y_400mf", "shufflenet_v2_x1_0", "vit_b_16")  # fmt: skip


def whole(network: str, shape: tuple[int, ...], rule: GroupRule) -> tuple[ModelState, tuple[Group, ...]]:
    """A state without memory of its own numbers, and its groups."""
    model = building.skeleton(network, 5)
    found = groups(model, shape, rule)
    tensors = {name: torch.empty(tensor.shape) for name, tensor in building.skeleton(network, 5).state_dict().items()}
    return ModelState(network=network, classes=5, input_shape=shape, tensors=tensors), found


def parts_equal_slimmed(network: str, shape: tuple[int, ...], rule: GroupRule) -> None:
    """Three random sets of widths: the sum of the terms is the MACs of the state that lost these filters."""
    state, found = whole(network, shape, rule)
    terms, constant = macs_terms(state, found)
    draw = generator(0, "test knapsack")
    for _ in range(3):
        kept = {g.name: torch.arange(int(torch.randint(1, g.filters + 1, (), generator=draw))) for g in found}
        widths = {name: np.array([len(stays)]) for name, stays in kept.items()}
        of_terms = sum(float(term.cost(*(widths[name] for name in term.groups)).item()) for term in terms)
        assert of_terms + constant == pytest.approx(macs_of(surgery.slim(state, kept, found)), rel=1e-9, abs=len(terms))


@pytest.mark.parametrize("network", EMBEDDED)
def test_parts_add_up_to_the_macs_of_a_slimmed_network(network: str) -> None:
    parts_equal_slimmed(network, EMBEDDED[network], COUPLED)
    parts_equal_slimmed(network, EMBEDDED[network], GroupRule())


@pytest.mark.check
@pytest.mark.parametrize("network", LARGE)
def test_parts_add_up_to_the_macs_of_torchvisions_networks(network: str) -> None:
    heads = GroupRule(residual="coupled", linear=True, heads=network == "vit_b_16")
    parts_equal_slimmed(network, (3, 224, 224), heads)


def ranked(network: str) -> tuple[ModelState, tuple[Group, ...], Ranking]:
    state, found = whole(network, EMBEDDED[network], COUPLED)
    draw = generator(3, "test scores")
    return state, found, {g.name: torch.rand(g.filters, generator=draw) * (1 + len(g.name)) for g in found}


@pytest.mark.parametrize("fraction", [0.3, 0.6])
def test_the_budget_is_met_and_more_importance_stays_than_by_scores_alone(fraction: float) -> None:
    state, found, ranking = ranked("digits_resnet")
    budget = Budget(state, found, fraction, minimums(state, found, 0.1))
    kept = knapsack(budget, ranking)
    assert macs_of(surgery.slim(state, kept, found)) <= original_macs(state) * (1 - fraction)

    def value(stays: surgery.Kept) -> float:
        return sum(float(ranking[name].double()[indices].sum()) for name, indices in stays.items())

    assert value(kept) > value(lowest_of_all(budget, ranking))


def test_filters_without_importance_stay_within_the_budget() -> None:
    """Where half of the filters are dead, the largest importance alone would take far less than the budget."""
    state, found, ranking = ranked("digits_vgg")
    dead = {name: scores * (torch.arange(len(scores)) % 2) for name, scores in ranking.items()}
    for fraction in (0.15, 0.3):
        kept = knapsack(Budget(state, found, fraction, minimums(state, found, 0.1)), dead)
        removed = 1 - macs_of(surgery.slim(state, kept, found)) / original_macs(state)
        assert fraction <= removed < fraction + 0.02


def test_a_budget_that_the_next_width_exceeds_by_far_is_refused() -> None:
    state, found, ranking = ranked("digits_vgg")
    budget = Budget(state, found, 0.3, minimums(state, found, 0.1), WidthRule(multiple=16))
    with pytest.raises(ConfigError, match=r"missed by more than 0.05: 0\.\d+ of the MACs"):
        knapsack(budget, ranking)


def test_widths_are_multiples_at_least_the_minimum_and_the_whole() -> None:
    state, found, _ = ranked("digits_vgg")
    for multiple in (1, 4):
        budget = Budget(state, found, 0.5, minimums(state, found, 0.3), WidthRule(multiple=multiple))
        for group in found:
            widths = widths_of(group, budget)
            assert list(widths) == sorted(set(widths)) and widths[-1] == group.filters
            assert len(spread(widths)) <= MOST_WIDTHS and {widths[0], widths[-1]} <= set(spread(widths)) <= set(widths)
            assert widths[0] >= math.ceil(0.3 * group.filters)
            assert all(width % multiple == 0 for width in widths[:-1])


def test_a_budget_that_no_width_meets_is_refused() -> None:
    state, found, ranking = ranked("digits_resnet")
    budget = Budget(state, found, 0.95, minimums(state, found, 0.6))
    with pytest.raises(ConfigError, match="with each group at its smallest width"):
        knapsack(budget, ranking)


def test_a_trial_prunes_by_it(run: Run, shared_cache: Cache) -> None:
    method = {
        "name": "prune",
        "criterion": "l1",
        "asked_removed_macs_fraction": 0.4,
        "allocation": "knapsack",
        "steps": 2,
    }
    events = run(short_trial(method), shared_cache)
    cuts = [event.result for event in events if event.result.stage.kind == "prune"]
    for cut, asked in zip(cuts, (0.2, 0.4), strict=True):
        assert asked <= cut.removed_macs_fraction < asked + 0.02
