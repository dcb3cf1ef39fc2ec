"""What a search costs at least and at most, and what it has found: lines for a person."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

from results.statistics.means import mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.planning.plan import PlannedTrial, cost_of, plan_trial, up_to
from sweeps.search.halving import ladder
from sweeps.search.proposals import trials_of
from sweeps.search.records import Proposal
from sweeps.search.simulated import simulate_search
from sweeps.search.space import space_of
from sweeps.spec.spec import Spec
from tailor.core.errors import ConfigError
from tailor.execution.dry_run import PlannedStage, Rung

Value = TypeVar("Value", int, float)
MOST_PLANNED = 2_000  # trials of a grid; a larger one is not planned, only counted
CONFIRMED = """
SELECT metric, seed, validation_score, test_score FROM measured_points WHERE trial_id IN (SELECT unnest(?))
QUALIFY row_number() OVER (PARTITION BY trial_id ORDER BY point DESC) = 1 ORDER BY seed
"""


RUNG_SCORES = """
SELECT trial_id, rung, epochs, point, validation_score AS score FROM rungs
UNION ALL SELECT trial_id, NULL, NULL, NULL, arg_max(validation_score, point)
FROM operating_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY trial_id
ORDER BY rung, trial_id
"""
BY_ORDER = "asynchronous: which settings continue depends on the order in which trials end, so runs and sites differ"
SIMULATED = 3  # searches with made-up scores
WEAK, FEWEST = 0.6, 4  # a rank correlation; different scores for one


def plan_lines(
    spec: Spec,
    work_of: Callable[[PlannedStage, str], float],
    slots: int,
    time_text: Callable[[float], str] | None,
) -> Iterator[str]:
    """Say how many trials a search runs, how its work compares with that of the whole grid, and how long it may take.

    Args:
        work_of: as in `cost_of`.
        slots: trials at a time.
        time_text: writes a work as a time; None: work is not in seconds.
    """
    assert spec.search is not None
    space = space_of(spec)
    size, seeds = sum(space.sizes), len(space.seeds)
    most = min(spec.search.trials or size, size)
    more = "" if spec.confirm is None else f", then the best {spec.confirm.top} with {spec.confirm.seeds} seeds"
    together = min(most, spec.search.batch) if spec.search.reads_scores else most
    yield f"search    {spec.search.sampler}: at most {most} of {size} settings, {together} at a time{more}"
    counts = [most] if spec.search.halving is None else spec.search.halving.counts(most)
    if len(counts) > 1:
        runs = [
            f"{count} to {rung or 'the end'}" for rung, count in zip([*ladder(spec.search), None], counts, strict=True)
        ]
        yield f"          of the settings run {', '.join(runs)}"
    if spec.search.is_asynchronous:
        yield f"          {BY_ORDER}"
    confirming = 0 if spec.confirm is None else min(spec.confirm.top, most) * spec.confirm.seeds
    yield f"          {most * seeds + confirming} trials at most, {size * seeds} in the grid; above is what runs first"
    if size * seeds <= MOST_PLANNED:
        yield from _against_grid(spec, counts, work_of, slots, time_text)


def _against_grid(
    spec: Spec,
    counts: Sequence[int],
    work_of: Callable[[PlannedStage, str], float],
    slots: int,
    time_text: Callable[[float], str] | None,
) -> Iterator[str]:
    """Compare the work of a search with that of the whole grid; `counts`: of settings that run to each rung."""
    assert spec.search is not None
    trials, rungs, seeds = _grid(spec), [*ladder(spec.search), None], len(space_of(spec).seeds)
    grid = cost_of(trials, lambda _: False, work_of).work_shared
    before, work = [0.0] * len(trials), 0.0
    for rung, count in zip(rungs, counts, strict=True):
        there = [up_to(trial, rung) for trial in trials]
        costs = [cost_of([trial], lambda _: False, work_of).work_shared for trial in there]
        most_alone = sum(sorted(cost - done for cost, done in zip(costs, before, strict=True))[-count * seeds :])
        work += most_alone if any(before) else min(most_alone, cost_of(there, lambda _: False, work_of).work_shared)
        before = costs
    share = min(1.0, work / grid) if grid else 0.0
    yield f"          the search alone takes at most {share:.2f} of the grid's work, before confirmation"
    if spec.search.is_replayable and grid:
        made = [simulate_search(spec, work_of, slots=slots, seed=seed) for seed in range(SIMULATED)]
        count_text, shares = (
            span([one.trials for one in made], str),
            span([one.work / grid for one in made], "{:.2f}".format),
        )
        took = (
            "" if time_text is None else f", {span([one.makespan for one in made], time_text)} with {slots} at a time"
        )
        yield f"          simulated {SIMULATED} times: {count_text} trials, {shares} of the grid's work in all{took}"
    if spec.search.halving is not None and spec.search.halving.epochs:
        states = sorted(up_to(trial, rungs[0]).stages[-1].stored_bytes for trial in trials)
        stored_mb = sum(states[-counts[0] * seeds :]) / 1e6
        yield f"          states at rungs take at most {stored_mb:,.1f} MB of the run's folder"


def _grid(spec: Spec) -> list[PlannedTrial]:
    """All settings that are not refused."""
    space, trials = space_of(spec), []
    for number in range(sum(space.sizes)):
        one = Proposal(
            number=number, batch=0, purpose="search", candidate=space.at(number), seeds=space.seeds, drawn_by="grid"
        )
        with suppress(ConfigError):  # it would be refused
            trials += [plan_trial(trial) for trial in trials_of(spec, one)]
    return trials


def span(values: Sequence[Value], write: Callable[[Value], str]) -> str:
    """The least and the largest value; one if they are written alike.

    >>> span([2, 1, 3], str)
    '1 to 3'
    """
    return " to ".join(dict.fromkeys([write(min(values)), write(max(values))]))


def rung_lines(tables: Run) -> Iterator[str]:
    """Say how well each rung predicts what came later: Spearman's rank correlation over the trials that reached both.

    Later is the end, or where too few trials reached that, the last rung that enough have reached.
    """
    from scipy.stats import spearmanr

    scores: dict[int | None, dict[str, float]] = {}
    names: dict[int | None, str] = {None: "the end"}
    for row in tables.rows(RUNG_SCORES):
        scores.setdefault(row["rung"], {})[row["trial_id"]] = row["score"]
        if row["rung"] is not None:
            rung = Rung(number=row["rung"], epochs=row["epochs"], point=row["point"])
            names[rung.number] = f"rung {rung.number} ({rung})"
    numbers = sorted(number for number in scores if number is not None)
    for number in numbers:
        for later in (None, *(other for other in reversed(numbers) if other > number)):
            both = [key for key in scores[number] if key in scores.get(later, {})]
            pairs = [(scores[number][key], scores[later][key]) for key in both]
            if min(len({one for one, _ in pairs}), len({other for _, other in pairs})) >= FEWEST:
                found = float(spearmanr(pairs).statistic)
                weak = "; this is weak: leave this rung out, or choose a later one" if found < WEAK else ""
                over = f"{found:.2f} over {len(pairs)} trials"
                yield f"{names[number]}: rank correlation with {names[later]} {over}{weak}"
                break
        else:
            yield f"{names[number]}: too few trials were continued to see what it predicts"


def outcome_lines(proposals: list[Proposal], tables: Run) -> Iterator[str]:
    """Say how the confirmed settings score on the test split, the best by validation first."""
    found = []
    for proposal in proposals:
        if proposal.purpose == "end":
            yield f"the search ended early: {proposal.refusal}"
        rows = tables.rows(CONFIRMED, [list(proposal.trial_ids)]) if proposal.purpose == "confirm" else []
        if rows:
            validation = mean_interval([row["validation_score"] for row in rows])
            found.append((validation.mean or 0.0, proposal, rows))
    for place, (_, proposal, rows) in enumerate(sorted(found, key=lambda one: -one[0])):
        scale = SCALES[rows[0]["metric"]]
        mean = mean_interval([row["test_score"] for row in rows])
        values = ", ".join(f"{key} = {value}" for key, value in proposal.candidate.values.items())
        name = "confirmed winner" if place == 0 else "also confirmed"
        score = f"test {scale.noun} {scale.value(mean.mean)}{scale.unit} [{scale.interval(mean)}]"
        yield f"{name}: proposal {proposal.confirms}, {score} over {len(rows)} new seeds: {values}"
