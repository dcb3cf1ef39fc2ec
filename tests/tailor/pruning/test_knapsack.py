"""The knapsack over widths, against all combinations of widths."""

import itertools

import numpy as np
import pytest

from tailor.common.errors import ConfigError
from tailor.pruning import knapsack
from tailor.pruning.knapsack import GAP, Choices, CostTerm, Solution, solve

SCOPES = {
    "chain": [("a",), ("b", "a"), ("c", "b"), ("d", "c"), ("d",)],
    "residual": [("s",), ("a", "s"), ("s", "a"), ("b", "s"), ("s", "b"), ("s",)],
    "depthwise": [("s",), ("a", "s"), ("a",), ("t", "a"), ("b", "t"), ("b",), ("t", "b")],
    "shared reader": [("a",), ("b",), ("c",), ("d", "a", "b"), ("d", "c")],
}
NETWORKS = [(kind, seed) for kind in SCOPES for seed in range(60)]


def random_term(scope: tuple[str, ...], sizes: dict[str, int], numbers: np.random.Generator) -> CostTerm:
    """A term with plateaus that do not always rise with the width."""
    table = numbers.integers(0, 6, [sizes[name] for name in scope]) * numbers.choice([1.0, 2.5, 7.3])

    def cost(*widths: np.ndarray) -> np.ndarray:
        picked: np.ndarray = table[tuple(np.broadcast_arrays(*(width - 1 for width in widths)))]
        return picked

    return CostTerm(groups=scope, cost=cost)


def random_network(kind: str, seed: int) -> tuple[dict[str, Choices], list[CostTerm], float]:
    numbers = np.random.default_rng([seed, len(kind)])
    names = sorted({name for scope in SCOPES[kind] for name in scope})
    sizes = {name: int(numbers.integers(1, 5)) for name in names}
    choices = {
        name: Choices(widths=tuple(range(1, size + 1)), values=tuple(np.cumsum(numbers.random(size)).tolist()))
        for name, size in sizes.items()
    }
    terms = [random_term(scope, sizes, numbers) for scope in SCOPES[kind]]
    whole = sum(float(term.cost(*(np.array([sizes[name]]) for name in term.groups)).item()) for term in terms)
    return choices, terms, max(1.0, whole * float(numbers.uniform(0.3, 1.1)))


def cost_of(terms: list[CostTerm], widths: dict[str, int]) -> float:
    return sum(term.at(widths) for term in terms)


def brute_force(choices: dict[str, Choices], terms: list[CostTerm], budget: float) -> float | None:
    """The largest importance of all combinations of widths within the budget; None if there is none."""
    best = None
    for picked in itertools.product(*(of_name.widths for of_name in choices.values())):
        widths = dict(zip(choices, picked, strict=True))
        if cost_of(terms, widths) <= budget * (1 + 1e-9):
            value = sum(choices[name].values[width - 1] for name, width in widths.items())
            best = value if best is None else max(best, value)
    return best


def checked(choices: dict[str, Choices], terms: list[CostTerm], budget: float) -> Solution:
    """The solution, after a check that its value is that of its widths and that these are within the budget."""
    solution = solve(choices, terms, budget)
    value = sum(choices[name].values[width - 1] for name, width in solution.widths.items())
    assert solution.value == pytest.approx(value)
    assert solution.cost == pytest.approx(cost_of(terms, solution.widths))
    assert solution.cost <= budget * (1 + 1e-9)
    return solution


@pytest.mark.parametrize(("kind", "seed"), NETWORKS[::10])
def test_it_is_the_best_of_all_combinations(kind: str, seed: int) -> None:
    compare_with_brute_force(kind, seed)


@pytest.mark.check
def test_it_is_the_best_of_all_combinations_of_240_networks() -> None:
    found = [compare_with_brute_force(kind, seed) for kind, seed in NETWORKS]
    assert sum(found) > 150  # the others cannot meet their budget, and say so


def compare_with_brute_force(kind: str, seed: int) -> bool:
    """Whether there is a solution."""
    choices, terms, budget = random_network(kind, seed)
    best = brute_force(choices, terms, budget)
    if best is None:
        with pytest.raises(ConfigError, match="the budget is"):
            solve(choices, terms, budget)
        return False
    solution = checked(choices, terms, budget)
    assert solution.value == pytest.approx(best, rel=2 * GAP)
    return True


@pytest.mark.parametrize("seed", range(5))
def test_a_term_of_many_groups_is_a_product_of_what_it_makes_and_reads(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a convolution behind a concatenation, whose combinations are too many to enter one by one."""
    monkeypatch.setattr(knapsack, "MOST_CELLS", 0)
    numbers = np.random.default_rng(seed)
    choices = {}
    for name in "abcde":
        kept = np.cumsum(numbers.random(4)).tolist()
        choices[name] = Choices(widths=(1, 2, 3, 4), values=tuple(kept))
    terms = [
        CostTerm(groups=tuple("abcde"), cost=lambda a, b, c, d, e: 1.0 * a * (b + c + d + e)),
        CostTerm(groups=("b", "a"), cost=lambda b, a: 0.5 * a * b),
    ]
    budget = float(numbers.uniform(10, 60))
    best = brute_force(choices, terms, budget)
    assert best is not None
    assert checked(choices, terms, budget).value == pytest.approx(best, rel=2 * GAP)


def test_costs_that_are_no_product_are_never_beyond_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knapsack, "MOST_CELLS", 0)
    found = 0
    for seed in range(20):
        choices, terms, budget = random_network("shared reader", seed)
        best = brute_force(choices, terms, budget)
        if best is None:
            continue
        try:
            solution = checked(choices, terms, budget)
        except ConfigError:  # costs that do not rise with the width: it may find none where there is one
            continue
        assert solution.value <= best * (1 + 1e-9)
        found += 1
    assert found > 5


def test_what_no_width_changes_is_part_of_the_budget() -> None:
    choices = {"a": Choices(widths=(1, 2), values=(1.0, 2.0))}
    terms = [CostTerm(groups=("a",), cost=lambda a: 1.0 * a)]
    assert solve(choices, terms, budget=5.0, constant=3.0).widths == {"a": 2}
    assert solve(choices, terms, budget=4.9, constant=3.0) == Solution(widths={"a": 1}, value=1.0, cost=4.0)
    with pytest.raises(
        ConfigError, match=r"budget is 3, and with each group at its smallest width 4 are left, .* 3 do"
    ):
        solve(choices, terms, budget=3.0, constant=3.0)
