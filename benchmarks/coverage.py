"""How often the claims of the statistics hold: intervals that contain the truth, and tests that err, by simulation.

    python benchmarks/coverage.py            # five to fifteen minutes
    python benchmarks/coverage.py --quick    # about two minutes

Each case draws data with a known truth, with the smallest n for which `results.statistics` gives the number, and checks
whether the answer was right. docs/statistics.md says what each statistic is.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.record import Measured, parser_of, table_of, write
from results.statistics.fronts import front_shares, resamples
from results.statistics.means import mean_interval
from results.statistics.pairs import compare_pairs, holm, sign_flip_p
from results.statistics.power import largest_deviation, pairs_for
from results.statistics.with_best import with_best_p

REPEATS = 4_000
SEED = 20_240_501
FAILING = 0.02  # share of the trials that fail: with 20 seeds a third of the arms loses one at random

Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
WORLDS: dict[str, Draw] = {
    "normal": lambda generator, shape: generator.normal(0, 1, shape),
    "skewed (exponential)": lambda generator, shape: generator.exponential(1, shape),
    "accuracies near 95%": lambda generator, shape: (
        generator.binomial(348, np.clip(generator.normal(0.95, 0.01, shape), 0, 1)) / 348
    ),
}
MEANS = {"normal": 0.0, "skewed (exponential)": 1.0, "accuracies near 95%": 0.95}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One claim.

    Attributes:
        claimed: the claimed share; for a test the probability to err, which may be lower. None: no claim.
        hit: draws data and returns whether the counted event happened.
        share_of_repeats: less than 1 if a draw is slow.
    """

    what: str
    n: str
    world: str
    claimed: float | None
    hit: Callable[[np.random.Generator], bool]
    share_of_repeats: float = 1.0


def cases() -> list[Case]:
    """All claims, each with the smallest n for which it is made and with larger ones."""
    return [*_intervals(), *_pair_cases(), *_tables(), *_others()]


def rate(case: Case, repeats: int) -> tuple[float, int]:
    """The share of repeats in which the event happened, and their number; the same seed for each case."""
    generator = np.random.default_rng(SEED)
    count = max(1, round(repeats * case.share_of_repeats))
    return sum(case.hit(generator) for _ in range(count)) / count, count


def results_table(repeats: int) -> Measured:
    """All cases as a table."""
    rows = []
    for case in cases():
        share, count = rate(case, repeats)
        error = (share * (1 - share) / count) ** 0.5
        rows.append({
            "what": case.what,
            "n": case.n,
            "drawn from": case.world,
            "claimed": case.claimed,
            "found": share,
            "standard_error": error,
            "repeats": count,
        })  # fmt: skip
    return table_of(
        "How often the statistics keep their word",
        rows,
        (
            "Intervals: how often they hold the truth. Tests: how often they find what is not there; exact tests may"
            " stay below what is claimed. Power: how often what is there is found.",
            f"Seed {SEED}; every case begins with it again.",
            "A share on the front is no p: of two equal arms, one has 0.95 or more of the resamples this often.",
            "Skewed values are far worse than scores of trials are; they show where an interval ends to hold.",
        ),
    )


def _holds(low: float | None, high: float | None, truth: float) -> bool:
    if low is None or high is None:
        raise ValueError("expected an interval, given none: the case draws too few values")
    return low <= truth <= high


def _intervals() -> list[Case]:
    def holds_mean(world: str, n: int, generator: np.random.Generator) -> bool:
        interval = mean_interval(WORLDS[world](generator, (n,)).tolist())
        return _holds(interval.low, interval.high, MEANS[world])

    return [
        Case(what="mean, t interval", n=str(n), world=world, claimed=0.95, hit=partial(holds_mean, world, n))
        for world in WORLDS
        for n in (3, 5, 10, 14)
    ]


def _pair_cases() -> list[Case]:
    def errs(world: str, n: int, generator: np.random.Generator) -> bool:
        first, second = WORLDS[world](generator, (2, n))
        return sign_flip_p(first - second) <= 0.05

    def family_errs(arms: int, n: int, generator: np.random.Generator) -> bool:
        base = generator.normal(0, 1, n)  # one base for all, so that the tests depend on each other
        p_values = holm([sign_flip_p(generator.normal(0, 1, n) - base) for _ in range(arms)])
        return any(p is not None and p <= 0.05 for p in p_values)

    pair_cases = [
        Case(what="sign-flip test errs", n=str(n), world=world, claimed=0.05, hit=partial(errs, world, n))
        for world in ("normal", "accuracies near 95%")
        for n in (6, 10)
    ]
    pair_cases.append(
        Case(
            what="sign-flip test errs",
            n="20",
            world="normal",
            claimed=0.05,
            hit=partial(errs, "normal", 20),
            share_of_repeats=0.25,
        )
    )
    pair_cases += [
        Case(
            what="Holm errs anywhere in 5 comparisons",
            n="10",
            world="normal",
            claimed=0.05,
            hit=partial(family_errs, 5, 10),
            share_of_repeats=0.5,
        )
    ]
    return pair_cases + _pool_cases()


def _pool_cases() -> list[Case]:
    """Two equal arms on several networks: a seed's luck is the same on each of them, as one split is."""

    def holds_over_networks(networks: int, seeds: int, claim: str, generator: np.random.Generator) -> bool:
        lucky = generator.normal(0, 1, (2, 1, seeds)) + generator.normal(0, 0.5, (2, networks, seeds))
        first, second = (dict(enumerate(scores)) for scores in lucky.mean(1))  # as `results.arms.comparison`
        comparison = compare_pairs(first, second)
        if claim == "interval":
            return _holds(comparison.difference.low, comparison.difference.high, 0.0)
        return comparison.p is not None and comparison.p <= 0.05

    return [
        Case(
            what=f"difference over networks, averaged within seeds: {claim}",
            n=f"{seeds} seeds, {networks} networks",
            world="normal, seeds lucky on all networks",
            claimed=0.95 if claim == "interval" else 0.05,
            hit=partial(holds_over_networks, networks, seeds, claim),
        )
        for claim in ("interval", "test errs")
        for networks, seeds in ((2, 10), (5, 6))
    ]


def _tables() -> list[Case]:
    """Tables of equal arms, as `results.questions.table` compares them: arms that lost a seed are in no comparison."""

    def errs(arms: int, n: int, failing: str, generator: np.random.Generator) -> bool:
        scores = generator.normal(0, 1, (n, arms)) + generator.normal(0, 1, (n, 1))
        if failing == "at random":
            complete = (generator.random((n, arms)) > FAILING).all(0)
        elif failing == "with their worst seeds":
            complete = (scores > np.quantile(scores, FAILING)).all(0)
        else:
            complete = np.ones(arms, bool)
        kept = scores[:, complete]
        if kept.shape[1] < 2:
            return False
        best = int(kept.mean(axis=0).argmax())
        return bool((with_best_p(kept, best, generator) <= 0.05).any())

    return [
        Case(
            what="a table tells any of equal arms from the best",
            n=f"{arms} arms, {n} seeds",
            world="normal" if not failing else f"normal, trials fail {failing}",
            claimed=0.05,
            hit=partial(errs, arms, n, failing),
        )
        for failing in ("", "at random", "with their worst seeds")
        for arms in (5, 12, 46)
        for n in (6, 10)
    ]


def _others() -> list[Case]:
    def holds_spread(generator: np.random.Generator) -> bool:
        return largest_deviation(float(np.std(generator.normal(0, 1, 6), ddof=1)), 6) >= 1

    planned = pairs_for(0.9) or 0

    def finds_by_t(generator: np.random.Generator) -> bool:
        interval = mean_interval(generator.normal(0.9, 1, planned).tolist())
        return not _holds(interval.low, interval.high, 0.0)

    def front_errs(count: int, generator: np.random.Generator) -> bool:
        """Two arms of one cost and one skill: whether a share of at least 0.95 puts only one of them on the front."""
        scores = generator.normal(0, 1, (2, count))
        return bool(front_shares(np.ones((2, count)), scores, resamples(count, generator, draws=400)).max() >= 0.95)

    return [
        Case(what="upper limit of a deviation", n="6", world="normal", claimed=0.8, hit=holds_spread),
        Case(
            what="power of the pairs that were planned",
            n=str(planned),
            world="normal, effect 0.9",
            claimed=0.8,
            hit=finds_by_t,
        ),
        *(
            Case(
                what="share on the front of 0.95 for one of two equal arms",
                n=str(count),
                world="normal",
                claimed=None,
                hit=partial(front_errs, count),
                share_of_repeats=0.1,
            )
            for count in (5, 10, 20)
        ),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit status."""
    options = parser_of(__doc__, "coverage", quick=f"a tenth of the {REPEATS} repeats").parse_args(arguments)
    write(results_table(REPEATS // 10 if options.quick else REPEATS), options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
