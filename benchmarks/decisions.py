"""What a decision of a search costs: processor time of one proposal, and of the promotions of one rung.

python benchmarks/decisions.py            # two minutes
python benchmarks/decisions.py --quick    # up to 1,000 trials
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

from benchmarks.record import RESULTS, Cell, Measured, verdict, write
from sweeps.search.halving import promotions
from sweeps.search.proposals import next_batch
from sweeps.search.records import Proposal, Score, ScoreKey, SettingResult
from sweeps.search.samplers import Sampling
from sweeps.search.space import Space, space_of
from sweeps.search.study import BEST_READ, MOST_READ
from sweeps.spec.search_settings import SearchSettings
from sweeps.spec.spec import Spec

SIZES = (100, 1_000, 10_000)
SAMPLERS = ("grid", "random", "tpe", "nsga2")
GOAL_MS = 5.0  # at 10,000 trials
REPEATS = 5
BATCH = 4
ALONE = (25, MOST_READ)  # results that Optuna's tpe reads, without anything of this product
SPEC = Spec(
    name="s",
    trial={"method": {"name": "fine_tune"}},
    axes={
        "optimisation.learning_rate": [round(0.001 * 1.02**power, 6) for power in range(100)],
        "optimisation.epochs": [*range(1, 51)],
        "optimisation.head_epochs": [2, 1, 3],
    },
)


def main() -> int:
    """Measures and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="up to 1,000 trials")
    parser.add_argument("--out", type=Path, default=RESULTS / "decisions", help="the table, without its suffix")
    options = parser.parse_args()
    space = space_of(SPEC)
    rows: list[tuple[Cell, ...]] = []
    for trials in SIZES[: 2 if options.quick else 3]:
        told = results(space, trials)
        for sampler in SAMPLERS:
            settings = SearchSettings(sampler=sampler, trials=2 * trials, batch=BATCH)
            sampling = Sampling(space, settings)
            decide = partial(sampling.propose, trials, trials // BATCH, told)
            rows.append(row(sampler, trials, median_ms(decide)))
            rows.append(row(f"{sampler}, first of a launch", trials, median_ms(partial(first, space, settings, told))))
            if settings.reads_scores:
                rows.append(row(f"{sampler}, and all around it", trials, whole_ms(settings, trials)))
        rows.append(row("halving", trials, halving_ms(told)))
    rows += [(f"Optuna alone, tpe, of {read} results", None, optuna_ms(space, read), None, None) for read in ALONE]
    write(
        Measured(
            title="Processor time of a decision",
            columns=("decides", "trials_before", "ms", "goal_ms", "verdict"),
            rows=tuple(rows),
            notes=(
                "A proposal, by a launch that has made some before; of halving, one of the promotions from a rung "
                f"where all of them rest. Medians of {REPEATS}.",
                f"And all around it: what a launch computes for a batch of {BATCH} settings, for each of them: the "
                "results of all trials before, the proposal, and the stages of its trial.",
                f"Of more than {MOST_READ} results tpe reads {MOST_READ}: the best {BEST_READ} and the newest.",
                "Optuna alone: one `ask` of a study of its own with equally many results, and nothing of this product.",
                "A space of 15,000 settings on three axes, of which one is not ordered.",
            ),
        ),
        options.out,
    )
    return 0


def first(space: Space, settings: SearchSettings, told: list[SettingResult]) -> object:
    """The next proposal, by a launch that has read nothing yet."""
    return Sampling(space, settings).propose(len(told), len(told) // BATCH, told)


def row(decides: str, trials: int, ms: float) -> tuple[Cell, ...]:
    """A row; the goal is about the largest number of trials."""
    is_largest = trials == SIZES[-1]
    return (decides, trials, ms, GOAL_MS if is_largest else None, verdict(ms <= GOAL_MS) if is_largest else None)


def results(space: Space, trials: int) -> list[SettingResult]:
    """Made-up results of different settings."""
    return [
        SettingResult(candidate=space.at(7 * n % 15_000), batch=n // BATCH, score=37 * n % 101 / 101, cost=n % 13)
        for n in range(trials)
    ]


def whole_ms(settings: SearchSettings, trials: int) -> float:
    """Milliseconds for each setting of a batch, by a launch that has decided about one before."""
    spec, space = SPEC.model_copy(update={"search": settings}), space_of(SPEC)
    made = [
        Proposal(
            number=n, batch=n // BATCH, purpose="search", candidate=one.candidate, seeds=(0,), drawn_by="tpe",
            trial_ids=(str(n),),
        )
        for n, one in enumerate(results(space, trials))
    ]  # fmt: skip
    scores: dict[ScoreKey, Score] = {
        (str(n), None): Score(validation_score=one.score or 0.0, macs=n % 13)
        for n, one in enumerate(results(space, trials))
    }
    sampling = Sampling(space, settings)

    def decide() -> None:
        for decision in next_batch(spec, made, scores, searcher=sampling):
            made.append(decision.proposal)
            scores[decision.proposal.trial_ids[0], None] = Score(validation_score=0.5, macs=3)

    return median_ms(decide) / BATCH


def optuna_ms(space: Space, read: int) -> float:
    """Milliseconds of one `ask` of Optuna's study with the same results: the least that a proposal by it can take."""
    import optuna
    from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    axes: dict[str, BaseDistribution] = {
        axis.key: IntDistribution(0, last) if axis.is_ordered else CategoricalDistribution(range(last + 1))
        for axis in space.dimensions[0]
        for last in [len(axis.values) - 1]
    }
    study = optuna.create_study(direction="maximize")
    for one in results(space, read):
        places = {axis.key: axis.values.index(one.candidate.values[axis.key]) for axis in space.dimensions[0]}
        study.add_trial(optuna.trial.create_trial(params=places, distributions=axes, value=one.score))

    def ask() -> None:
        study.sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
        study.tell(study.ask(axes), state=optuna.trial.TrialState.FAIL)

    return median_ms(ask)


def halving_ms(told: list[SettingResult]) -> float:
    """Milliseconds for each promotion from the lowest rung."""
    settings = SearchSettings(sampler="tpe", trials=len(told), halving={"epochs": (1, 3)})  # type: ignore[arg-type]  # as in TOML
    there = [
        Proposal(
            number=n, batch=one.batch, purpose="search", candidate=one.candidate, seeds=(0,), drawn_by="tpe", rung=0,
            trial_ids=(str(n),),
        )
        for n, one in enumerate(told)
    ]  # fmt: skip
    scores = {(str(n), 0): Score(validation_score=one.score or 0.0, macs=1) for n, one in enumerate(told)}
    return median_ms(lambda: [*promotions(settings, there, scores)]) / len([*promotions(settings, there, scores)])


def median_ms(act: Callable[[], object]) -> float:
    """Processor time of an action, after one that imports what it needs."""
    act()
    found = []
    for _ in range(REPEATS):
        start_s = time.process_time()
        act()
        found.append(1000 * (time.process_time() - start_s))
    return statistics.median(found)


if __name__ == "__main__":
    sys.exit(main())
