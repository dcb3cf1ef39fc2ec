"""The filters removed are the smallest of the whole network and just reach the budget."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from tailor import allocation, cost, surgery
from tailor.data import generator
from tailor.errors import ConfigError
from tailor.state import ModelState
from tests.tailor.trials import NETWORKS


def scored(state: ModelState) -> tuple[ModelState, tuple[surgery.Group, ...]]:
    found = surgery.groups(state.build(), state.network)
    draw = generator(5, "test scores")
    return replace(state, scores={g.site: torch.rand(g.filters, generator=draw) for g in found}), found


def macs_of(state: ModelState) -> int:
    return cost.macs(state.network, state.classes, {name: t.shape for name, t in state.tensors.items()})


def slow_reference(
    state: ModelState, found: tuple[surgery.Group, ...], budget: float, minimum_fraction: float
) -> surgery.Kept:
    """Remove the lowest filter that may go, slim for real, count, and so on until the budget is reached."""
    original = macs_of(state)
    kept = {g.site: torch.arange(g.filters) for g in found}
    while macs_of(surgery.slim(state, kept, found)) > original * (1 - budget):
        candidates = [
            (state.scores[g.site][int(index)].item(), position, int(index), g.site)
            for position, g in enumerate(found)
            for index in kept[g.site]
            if len(kept[g.site]) > max(1, -(-g.filters * minimum_fraction // 1))
        ]
        _, _, index, site = min(candidates)
        kept[site] = kept[site][kept[site] != index]
    return kept


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("budget", "minimum"), [(0.1, 0.1), (0.35, 0.1), (0.35, 0.6)])
def test_equals_the_slow_reference(
    network: str, budget: float, minimum: float, fitted: Callable[[str], ModelState]
) -> None:
    state, found = scored(fitted(network))
    fast = allocation.lowest_of_all(state, found, budget, minimum)
    slow = slow_reference(state, found, budget, minimum)
    assert {site: kept.tolist() for site, kept in fast.items()} == {s: k.tolist() for s, k in slow.items()}


@pytest.mark.parametrize("network", NETWORKS)
def test_the_last_removal_reaches_the_budget(network: str, fitted: Callable[[str], ModelState]) -> None:
    state, found = scored(fitted(network))
    kept = allocation.lowest_of_all(state, found, 0.2, 0.1)
    gone = {(g.site, i) for g in found for i in range(g.filters)} - {(s, int(i)) for s, k in kept.items() for i in k}
    score_of = {(site, i): values[i].item() for site, values in state.scores.items() for i in range(len(values))}
    highest = max(gone, key=score_of.__getitem__)
    assert score_of[highest] < min(score_of[entry] for entry in score_of.keys() - gone)
    back = dict(kept) | {highest[0]: torch.tensor(sorted([*kept[highest[0]].tolist(), highest[1]]))}
    allowed = macs_of(state) * 0.8
    assert macs_of(surgery.slim(state, kept, found)) <= allowed < macs_of(surgery.slim(state, back, found))


def test_equal_scores_go_in_the_order_of_layers_and_filters() -> None:
    scores = {"z": torch.tensor([1.0, 0.0]), "a": torch.tensor([0.0, 0.0, 1.0])}
    assert allocation.removal_order(scores, {"z": 1, "a": 1}) == [("z", 1), ("a", 0), ("a", 1)]


def test_a_layer_at_its_minimum_keeps_what_it_has() -> None:
    scores = {"a": torch.tensor([0.1, 0.2, 0.3]), "b": torch.tensor([0.4, 0.5])}
    assert allocation.removal_order(scores, {"a": 2, "b": 1}) == [("a", 0), ("b", 0)]


def test_an_impossible_budget_says_what_is_possible(fitted: Callable[[str], ModelState]) -> None:
    state, found = scored(fitted("digits_resnet"))
    with pytest.raises(ConfigError, match=r"more than digits_resnet can lose.*blocks\.0\.conv1.*choose a smaller"):
        allocation.lowest_of_all(state, found, 0.95, 0.1)


def test_what_earlier_steps_removed_counts(fitted: Callable[[str], ModelState]) -> None:
    state, found = scored(fitted("digits_vgg"))
    first = surgery.slim(state, allocation.lowest_of_all(state, found, 0.2, 0.1), found)
    again = surgery.groups(first.build(), "digits_vgg")
    kept = allocation.lowest_of_all(first, again, 0.2, 0.1)
    assert all(len(kept[g.site]) == g.filters for g in again)  # nothing more to remove
