"""What a comparison says: better only where the interval, the exact test and the tuning budgets allow it."""

from typing import Any

import pytest

from results.arms.comparison import Pairing
from results.arms.verdict import verdict, verdict_word
from results.statistics.pairs import compare_pairs


def pairing(differences: list[float], **changes: Any) -> Pairing:
    """A against B, with these differences seed by seed."""
    found = compare_pairs(dict(enumerate(differences)), dict.fromkeys(range(len(differences)), 0.0))
    facts: dict[str, Any] = {
        "problem": None, "first": "A", "second": "B", "arm": "A", "asked": 0.2, "metric": "accuracy", "result": found,
        **dict.fromkeys(("first_models", "second_models"), frozenset(map(str, range(len(differences))))),
        "first_best_of": frozenset({1}),
        "second_best_of": frozenset({1}),
    }  # fmt: skip
    return Pairing(**(facts | changes))


def test_five_seeds_cannot_settle_it_however_clear_they_look() -> None:
    words = verdict(pairing([0.10, 0.11, 0.10, 0.09, 0.10]))
    assert words.startswith(
        "A is ahead of B by 10.00 points on average over 5 pairs. Inconclusive: 5 pairs cannot reach"
    )
    assert "contains 0" not in words


def test_a_wide_interval_cannot_settle_it_however_many_pairs() -> None:
    words = verdict(pairing([0.1, -0.1, 0.2, -0.15, 0.02, -0.01, 0.03, -0.1]))
    assert "Inconclusive: the 95% interval of the difference contains 0" in words
    assert "cannot reach" not in words


def test_one_pair_and_all_equal_are_not_settled() -> None:
    assert "one pair gives no interval" in verdict(pairing([0.1]))
    words = verdict(pairing([0.0] * 8))
    assert "Inconclusive: the 95% interval of the difference contains 0" in words
    assert words.startswith("A and B are equal on average over 8 pairs.")


def test_without_a_common_seed_there_is_nothing_to_say() -> None:
    assert verdict(pairing([])) == "Inconclusive: no seed has both A and B."
    assert verdict_word(pairing([])) == "inconclusive"


CLEAR = [0.10, 0.11, 0.10, 0.09, 0.10, 0.12]


def test_six_clear_pairs_settle_it_either_way() -> None:
    words = verdict(pairing(CLEAR))
    assert words.startswith("A is better than B, by 10.33 points on average over 6 pairs (p = 0.0312; the smallest")
    assert verdict(pairing([-value for value in CLEAR])).startswith("A is worse than B, by 10.33 points")
    assert verdict_word(pairing(CLEAR)) == "better"
    assert verdict_word(pairing([-value for value in CLEAR])) == "worse"


@pytest.mark.parametrize(
    ("first", "second", "words"), [({3}, {2}, "best of 3 settings"), ({2}, {1, 2}, "against the best of 1 or 2")]
)
def test_different_tuning_budgets_settle_nothing(first: set[int], second: set[int], words: str) -> None:
    unequal = pairing(CLEAR, first_best_of=frozenset(first), second_best_of=frozenset(second))
    assert verdict_word(unequal) == "not equally tuned"
    assert "Inconclusive: the tuning budgets are not equal" in verdict(unequal)
    assert words in verdict(unequal)
    equal = pairing(CLEAR, first_best_of=frozenset(first), second_best_of=frozenset(first))
    assert verdict_word(equal) == ("better" if len(first) == 1 else "not equally tuned")


def test_different_tuning_budgets_where_trials_failed_are_incomplete() -> None:
    unequal = pairing(CLEAR, first_best_of=frozenset({3}), second_best_of=frozenset({2}), failed=1)
    assert verdict_word(unequal) == "incomplete"
