"""What a decision of a search costs: processor time of one proposal, and of the promotions of one rung.

python benchmarks/decisions.py            # two minutes
python benchmarks/decisions.py --quick    # up to 1,000 trials
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)  # the repository instead of this folder

import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.record import Row, parser_of, table_of, verdict, write
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


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and writes the table."""
    options = parser_of(__doc__, "decisions", quick="up to 1,000 trials").parse_args(arguments)
    space = space_of(SPEC)
    rows: list[Row] = []
    for trials in SIZES[: 2 if options.quick else 3]:
        results_before = results(space, trials)
        for sampler in SAMPLERS:
            settings = SearchSettings(sampler=sampler, trials=2 * trials, batch=BATCH)
            sampling = Sampling(space, settings)
            decide = partial(sampling.propose, trials, trials // BATCH, results_before)
            rows.append(row(sampler, trials, median_ms(decide)))
            rows.append(
                row(f"{sampler}, first of a launch", trials, median_ms(partial(first, space, settings, results_before)))
            )
            if settings.reads_scores:
                rows.append(row(f"{sampler}, and all around it", trials, whole_ms(settings, trials)))
        rows.append(row("halving", trials, halving_ms(results_before)))
    rows += [row(f"Optuna alone, tpe, of {read} results", None, optuna_ms(space, read)) for read in ALONE]
    write(
        table_of(
            "Processor time of a decision",
            rows,
            (
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


def first(space: Space, settings: SearchSettings, results_before: list[SettingResult]) -> object:
    """The next proposal, by a launch that has read nothing yet."""
    return Sampling(space, settings).propose(len(results_before), len(results_before) // BATCH, results_before)


def row(decides: str, trials: int | None, ms: float) -> Row:
    """A row; the goal is about the largest number of trials."""
    is_largest = trials == SIZES[-1]
    return {
        "decides": decides,
        "trials_before": trials,
        "ms": ms,
        "goal_ms": GOAL_MS if is_largest else None,
        "verdict": verdict(ms <= GOAL_MS) if is_largest else None,
    }


def results(space: Space, trials: int) -> list[SettingResult]:
    """Made-up results of different settings."""
    return [
        SettingResult(candidate=space.at(7 * n % 15_000), batch=n // BATCH, score=37 * n % 101 / 101, cost=n % 13)
        for n in range(trials)
    ]


def whole_ms(settings: SearchSettings, trials: int) -> float:
    """Milliseconds for each setting of a batch, by a launch that has decided about one before."""
    spec, space = SPEC.model_copy(update={"search": settings}), space_of(SPEC)
    proposals = [
        Proposal(
            number=n, batch=n // BATCH, purpose="search", candidate=result.candidate, seeds=(0,), drawn_by="tpe",
            trial_ids=(str(n),),
        )
        for n, result in enumerate(results(space, trials))
    ]  # fmt: skip
    scores: dict[ScoreKey, Score] = {
        (str(n), None): Score(validation_score=result.score or 0.0, macs=n % 13)
        for n, result in enumerate(results(space, trials))
    }
    sampling = Sampling(space, settings)

    def decide() -> None:
        for decision in next_batch(spec, proposals, scores, sampling=sampling):
            proposals.append(decision.proposal)
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
    for result in results(space, read):
        places = {axis.key: axis.values.index(result.candidate.values[axis.key]) for axis in space.dimensions[0]}
        study.add_trial(optuna.trial.create_trial(params=places, distributions=axes, value=result.score))

    def ask() -> None:
        study.sampler = optuna.samplers.TPESampler(seed=0, constant_liar=True)
        study.tell(study.ask(axes), state=optuna.trial.TrialState.FAIL)

    return median_ms(ask)


def halving_ms(results_before: list[SettingResult]) -> float:
    """Milliseconds for each promotion from the lowest rung."""
    trials = len(results_before)
    settings = SearchSettings(sampler="tpe", trials=trials, halving={"epochs": (1, 3)})  # type: ignore[arg-type]  # as in TOML
    proposals = [
        Proposal(
            number=n, batch=result.batch, purpose="search", candidate=result.candidate, seeds=(0,), drawn_by="tpe",
            rung=0, trial_ids=(str(n),),
        )
        for n, result in enumerate(results_before)
    ]  # fmt: skip
    scores = {
        (str(n), 0): Score(validation_score=result.score or 0.0, macs=1) for n, result in enumerate(results_before)
    }
    promoted = list(promotions(settings, proposals, scores))
    return median_ms(lambda: list(promotions(settings, proposals, scores))) / len(promoted)


def median_ms(act: Callable[[], object]) -> float:
    """Processor time of an action, after one that imports what it needs."""
    act()
    times_ms = []
    for _ in range(REPEATS):
        start_s = time.process_time()
        act()
        times_ms.append(1000 * (time.process_time() - start_s))
    return statistics.median(times_ms)


if __name__ == "__main__":
    sys.exit(main())
