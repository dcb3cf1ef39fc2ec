"""Verdicts on printed numbers: against scipy's tests, and by simulation no more false ones than are claimed."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest
from scipy import stats

from results.statistics.equivalence import ALPHA, Judged, Printed, agree, ahead

TABLES = 2_000
LIMIT = ALPHA + 4 * math.sqrt(ALPHA * (1 - ALPHA) / TABLES)
"""What the share of tables with a false verdict exceeds with a chance of 3e-5 if it is alpha; the seeds are fixed."""
MARGIN = 0.01


def drawn(mean: float, deviation: float, n: int, tables: int = TABLES, numbers: int = 1) -> Iterator[np.ndarray]:
    """Made-up scores (numbers, n), table by table."""
    draw = np.random.default_rng(7)
    for _ in range(tables):
        yield draw.normal(mean, deviation, (numbers, n))


def scipys_verdict(values: Sequence[float], printed: float, level: float) -> str:
    """The slow and obvious reference, without an error of the printed number."""
    above = stats.ttest_1samp(values, printed - MARGIN, alternative="greater").pvalue
    below = stats.ttest_1samp(values, printed + MARGIN, alternative="less").pvalue
    if max(above, below) < level:
        return "within"
    beyond = min(
        stats.ttest_1samp(values, printed + MARGIN, alternative="greater").pvalue,
        stats.ttest_1samp(values, printed - MARGIN, alternative="less").pvalue,
    )
    return "not within" if beyond < level / 2 else "cannot say yet"


def test_verdicts_are_those_of_scipys_tests() -> None:
    seen: Counter[str] = Counter()
    for offset in (0.0, 0.008, 0.02):
        for (values,) in drawn(0.85 + offset, 0.006, 6, tables=150):
            for tests in (1, 5):
                expected = scipys_verdict(values, 0.85, ALPHA / tests)
                assert agree([*values], Printed(value=0.85), margin=MARGIN, tests=tests).verdict == expected
                seen[expected] += 1
    assert min(seen[verdict] for verdict in ("within", "not within", "cannot say yet")) > 50


def false_share(false: Callable[[Judged], bool], judge: Callable[[np.ndarray, int], Judged], *world: float) -> float:
    """The share of tables of five numbers with a false verdict; `world`: mean, deviation and number of the scores."""
    mean, deviation, n = world
    wrong = 0
    for table in drawn(mean, deviation, int(n), numbers=5):
        wrong += any(false(judge(values, len(table))) for values in table)
    return wrong / TABLES


@pytest.mark.check
@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("distance", [MARGIN, 1.5 * MARGIN])
def test_what_is_not_within_is_called_within_in_no_more_tables_than_claimed(n: int, distance: float) -> None:
    def judge(values: np.ndarray, tests: int) -> Judged:
        return agree([*values], Printed(value=0.8), margin=MARGIN, tests=tests)

    share = false_share(lambda judged: judged.verdict == "within", judge, 0.8 + distance, 0.004, n)
    assert share <= LIMIT
    if distance == MARGIN and n == 10:
        assert share > ALPHA / 2  # it is no empty test


@pytest.mark.check
@pytest.mark.parametrize("n", [2, 3, 10])
@pytest.mark.parametrize("distance", [0.0, MARGIN])
def test_what_is_within_is_called_not_within_in_no_more_tables_than_claimed(n: int, distance: float) -> None:
    def judge(values: np.ndarray, tests: int) -> Judged:
        return agree([*values], Printed(value=0.8), margin=MARGIN, tests=tests)

    assert false_share(lambda judged: judged.verdict == "not within", judge, 0.8 - distance, 0.02, n) <= LIMIT


@pytest.mark.parametrize("deviation", [None, 0.004])
def test_a_printed_mean_of_three_runs_errs_itself(deviation: float | None) -> None:
    """Drawn anew in each table; taken as it is, it would make more false verdicts than claimed."""
    draw = np.random.default_rng(11)

    def share(n_known: bool) -> float:
        wrong = 0
        for (values,) in drawn(0.8 + MARGIN, 0.004, 5):
            theirs = draw.normal(0.8, 0.004, 3)
            spread = None if deviation is None else float(theirs.std(ddof=1))
            printed = Printed(
                value=float(theirs.mean()), n=3 if n_known else None, deviation=spread if n_known else None
            )
            wrong += agree([*values], printed, margin=MARGIN).verdict == "within"
        return wrong / TABLES

    assert share(n_known=True) <= LIMIT
    assert share(n_known=False) > 2 * LIMIT


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_claim_that_is_not_true_is_borne_out_in_no_more_tables_than_claimed(n: int) -> None:
    def judge(values: np.ndarray, tests: int) -> Judged:
        return ahead([*values], tests=tests)

    false = false_share(lambda judged: judged.verdict != "cannot say yet", judge, 0.0, 0.01, n)
    assert ALPHA / 3 < false <= LIMIT


@pytest.mark.parametrize(("offset", "verdict"), [(0.001, "within"), (0.022, "not within")])
def test_with_the_seeds_that_it_needs_it_can_say(offset: float, verdict: str) -> None:
    """In most of the cases: 80% are planned, with a deviation that is rather too large."""
    pilot = [0.8 + offset + 0.01 * step for step in (-1, 0, 1)]  # with the true mean and deviation
    needed = agree(pilot, Printed(value=0.8), margin=MARGIN, tests=5).seeds_needed
    assert needed is not None and needed > 3
    said = [
        agree([*values], Printed(value=0.8), margin=MARGIN, tests=5).verdict
        for (values,) in drawn(0.8 + offset, 0.01, needed, tables=200)
    ]
    assert said.count(verdict) > 120  # of 200


def test_too_few_values_say_nothing_and_how_many_are_needed() -> None:
    for values in ([], [0.8]):
        for judged in (agree(values, Printed(value=0.8)), ahead(values)):
            assert (judged.verdict, judged.seeds_needed, judged.low) == ("cannot say yet", 2, None)
    judged = agree([0.8, 0.82], Printed(value=0.81, n=1, deviation=0.2))
    assert judged.seeds_needed is None  # the printed number's own error is larger than the margin
    assert ahead([0.001, -0.001, 0.0]).seeds_needed is None


def test_equal_scores_are_not_taken_for_certainty() -> None:
    assert agree([0.8, 0.8], Printed(value=0.8)).verdict == "within"
    assert agree([0.8, 0.8], Printed(value=0.8), least_deviation=0.01).verdict == "cannot say yet"
    assert ahead([0.01, 0.01], least_deviation=0.01).verdict == "cannot say yet"
    assert ahead([0.01, 0.01]).verdict == "within" and ahead([-0.01, -0.01]).verdict == "not within"
