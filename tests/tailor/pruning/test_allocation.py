"""How much goes from which layer: each allocation against a slow one that slims for real and counts."""

import math
from collections.abc import Callable
from itertools import count

import pytest
import torch

from tailor.common.errors import ConfigError
from tailor.data.task_data import generator
from tailor.execution.runner import StageEvent
from tailor.model.cost import macs_of, original_macs, removed_macs_fraction
from tailor.model.state import ModelState
from tailor.pruning import budget_solver, surgery
from tailor.pruning.budget_solver import Ranking
from tailor.stage_execution.tuning import cost_of
from tailor.stages import GroupRule
from tests.tailor.trials import NETWORKS

Run = Callable[..., list[StageEvent]]
Found = tuple[surgery.Group, ...]
RULES = {"inside": GroupRule(), "coupled": GroupRule(residual="coupled", linear=True)}


def ranked(state: ModelState, rule: GroupRule) -> tuple[Found, Ranking]:
    found = surgery.groups(state.build(), state.input_shape, rule)
    draw = generator(5, "test scores")
    return found, {g.name: torch.rand(g.filters, generator=draw) for g in found}


def as_lists(kept: surgery.Kept) -> dict[str, list[int]]:
    return {name: stays.tolist() for name, stays in kept.items()}


def lowest_go(ranking: Ranking, removed: dict[str, int]) -> dict[str, list[int]]:
    """What stays, sorted, when each group loses its lowest-ranked filters."""
    kept = {}
    for name, values in ranking.items():
        order = sorted(range(len(values)), key=lambda i, values=values: (values[i].item(), i))
        kept[name] = sorted(order[removed[name] :])
    return kept


def meets(state: ModelState, found: Found, kept: dict[str, list[int]], budget: float) -> bool:
    slimmed = surgery.slim(state, {name: torch.tensor(stays) for name, stays in kept.items()}, found)
    return macs_of(slimmed) <= original_macs(state) * (1 - budget)


# --- the lowest of the whole network ---


def slow_lowest_of_all(
    state: ModelState, found: Found, budget: float, minimum_fraction: float, ranking: Ranking
) -> dict[str, list[int]]:
    """Remove the lowest filter that may go, slim for real, count, and so on until the budget is reached."""
    kept = {g.name: list(range(g.filters)) for g in found}
    while not meets(state, found, kept, budget):
        candidates = [
            (ranking[g.name][index].item(), position, index, g.name)
            for position, g in enumerate(found)
            for index in kept[g.name]
            if len(kept[g.name]) > max(1, math.ceil(g.filters * minimum_fraction))
        ]
        _, _, index, name = min(candidates)
        kept[name].remove(index)
    return kept


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("budget", "minimum", "rule"), [(0.1, 0.1, "inside"), (0.35, 0.1, "coupled"), (0.35, 0.6, "inside")]
)
def test_lowest_of_all_equals_the_slow_reference(
    network: str, budget: float, minimum: float, rule: str, fitted: Callable[[str], ModelState]
) -> None:
    state = fitted(network)
    found, ranking = ranked(state, RULES[rule])
    least = budget_solver.minimums(state, found, minimum)
    fast = budget_solver.lowest_of_all(budget_solver.Budget(state, found, budget, least), ranking)
    assert as_lists(fast) == slow_lowest_of_all(state, found, budget, minimum, ranking)


@pytest.mark.parametrize("network", NETWORKS)
def test_the_last_removal_reaches_the_budget(network: str, fitted: Callable[[str], ModelState]) -> None:
    state = fitted(network)
    found, ranking = ranked(state, RULES["inside"])
    kept = as_lists(
        budget_solver.lowest_of_all(budget_solver.Budget(state, found, 0.2, dict.fromkeys(ranking, 1)), ranking)
    )
    score_of = {(name, i): values[i].item() for name, values in ranking.items() for i in range(len(values))}
    gone = score_of.keys() - {(name, i) for name, stays in kept.items() for i in stays}
    name, index = max(gone, key=score_of.__getitem__)
    assert score_of[name, index] < min(score_of[entry] for entry in score_of.keys() - gone)
    assert meets(state, found, kept, 0.2)
    assert not meets(state, found, kept | {name: sorted([*kept[name], index])}, 0.2)


def test_equal_scores_go_in_the_order_of_layers_and_filters() -> None:
    scores = {"z": torch.tensor([1.0, 0.0]), "a": torch.tensor([0.0, 0.0, 1.0])}
    assert budget_solver.removal_order(scores, {"z": 1, "a": 1}) == [("z", 1), ("a", 0), ("a", 1)]


def test_a_layer_at_its_minimum_keeps_what_it_has() -> None:
    scores = {"a": torch.tensor([0.1, 0.2, 0.3]), "b": torch.tensor([0.4, 0.5])}
    assert budget_solver.removal_order(scores, {"a": 2, "b": 1}) == [("a", 0), ("b", 0)]


# --- the same share of every layer ---


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("budget", "minimum"), [(0.2, 0.1), (0.35, 0.5)])
def test_uniform_equals_the_slow_reference(
    network: str, budget: float, minimum: float, fitted: Callable[[str], ModelState]
) -> None:
    """The share grows by a thousandth until the really slimmed network meets the budget."""
    state = fitted(network)
    found, ranking = ranked(state, RULES["coupled"])
    fast = budget_solver.uniform(
        budget_solver.Budget(state, found, budget, budget_solver.minimums(state, found, minimum)), ranking
    )
    for thousandths in count():
        widths = {g.name: round(g.filters * (1000 - thousandths) / 1000) for g in found}
        removed = {g.name: g.filters - max(math.ceil(minimum * g.filters), widths[g.name]) for g in found}
        slow = lowest_go(ranking, removed)
        if meets(state, found, slow, budget):
            break
    assert as_lists(fast) == slow
    assert len({round(len(fast[g.name]) / g.filters, 1) for g in found}) == 1


def test_uniform_counts_shares_of_the_original_widths(fitted: Callable[[str], ModelState]) -> None:
    """A layer that lost filters before keeps what is left until the others are as narrow."""
    state = fitted("digits_vgg")
    found, ranking = ranked(state, RULES["inside"])
    first = {name: torch.arange(6 if name == "features.5" else len(values)) for name, values in ranking.items()}
    narrow = surgery.slim(state, first, found)
    again, ranking = ranked(narrow, RULES["inside"])
    kept = budget_solver.uniform(budget_solver.Budget(narrow, again, 0.6, dict.fromkeys(ranking, 1)), ranking)
    assert len(kept["features.5"]) == 6  # of 48
    assert len(kept["features.2"]) == len(kept["features.7"]) < 48
    assert 2 * len(kept["features.0"]) == pytest.approx(len(kept["features.2"]), abs=1)  # 24 and 48 originally


# --- budgets ---


@pytest.mark.parametrize("allocate", [budget_solver.lowest_of_all, budget_solver.uniform])
def test_an_impossible_budget_names_the_layer_in_the_way(
    allocate: Callable[..., surgery.Kept], fitted: Callable[[str], ModelState]
) -> None:
    state = fitted("digits_resnet")
    found, ranking = ranked(state, RULES["inside"])
    least = budget_solver.minimums(state, found, 0.1)
    fewest = {g.name: torch.arange(least[g.name]) for g in found}
    slimmed = surgery.slim(state, fewest, found)
    possible = removed_macs_fraction(slimmed)
    left = {layer["layer"]: layer["macs"] for layer in cost_of(slimmed, slimmed.build())["layers"]}
    text = (
        rf"more than digits_resnet can lose, which is {possible:.3f} .*\(blocks\.0\.conv1, blocks\.1\.conv1\)"
        rf".*stays is in {max(left, key=left.__getitem__)}, .*choose a smaller budget.*pruning\.residual = 'coupled'"
    )
    with pytest.raises(ConfigError, match=text):
        allocate(budget_solver.Budget(state, found, 0.95, least), ranking)
    assert as_lists(allocate(budget_solver.Budget(state, found, possible - 1e-6, least), ranking)) == lowest_go(
        ranking, {g.name: g.filters - least[g.name] for g in found}
    )


def test_a_network_without_prunable_layers_is_refused(fitted: Callable[[str], ModelState]) -> None:
    with pytest.raises(ConfigError, match=r"is 0\.000 with its prunable layers \(none\)"):
        budget_solver.lowest_of_all(budget_solver.Budget(fitted("digits_vgg"), (), 0.1, {}), {})


@pytest.mark.parametrize("allocate", [budget_solver.lowest_of_all, budget_solver.uniform])
def test_what_earlier_steps_removed_counts(
    allocate: Callable[..., surgery.Kept], fitted: Callable[[str], ModelState]
) -> None:
    state = fitted("digits_vgg")
    found, ranking = ranked(state, RULES["inside"])
    least = dict.fromkeys(ranking, 1)
    first = surgery.slim(state, allocate(budget_solver.Budget(state, found, 0.2, least), ranking), found)
    again, ranking = ranked(first, RULES["inside"])
    met = allocate(budget_solver.Budget(first, again, 0.2, least), ranking)
    assert all(len(met[g.name]) == g.filters for g in again)  # nothing more to remove
    more = surgery.slim(first, allocate(budget_solver.Budget(first, again, 0.4, least), ranking), again)
    assert 0.4 <= removed_macs_fraction(more) < 0.44


def test_the_minimum_is_a_share_of_the_original_filters(fitted: Callable[[str], ModelState]) -> None:
    state = fitted("digits_vgg")
    found, _ = ranked(state, RULES["inside"])
    narrow = surgery.slim(state, {g.name: torch.arange(g.filters // 2) for g in found}, found)
    again, _ = ranked(narrow, RULES["inside"])
    assert budget_solver.minimums(narrow, again, 0.1) == budget_solver.minimums(state, found, 0.1)
    assert budget_solver.minimums(state, found, 0.1)["features.0"] == 3  # of 24, rounded up
    assert set(budget_solver.minimums(state, found, 0.0).values()) == {1}
