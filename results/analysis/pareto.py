"""Which arms are worth their cost: the Pareto front of score against MACs, parameters, latency or hours."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from results.arms.comparison import Arm, Problem
from results.arms.selection import select_arms
from results.arms.shared_training import support_lines
from results.errors import ResultsError
from results.statistics.fronts import FRONT_DRAWS, front_shares, on_front, resamples
from results.statistics.means import Mean, mean_interval
from results.store.reader import Run
from results.text.number_format import SCALES, number
from results.text.page import Heading, Note, PageTable, Part
from transtailor.names import did_you_mean
from transtailor.shell import command

DEVICE_HOURS = "device_hours"
"""Hours of all ranks for all stages that led to a point, without sharing; GPU-hours on GPUs."""
NO_COST = (
    *("seed", "point", "validation_score", "deciding_score", "validation_loss", "validation_images", "test_score"),
    *("test_images", "train_images", "asked_removed_macs_fraction", "removed_macs_fraction", "original_macs"),
)
"""Numeric columns that are no cost of a model."""
TIMED = ("latency_ms", "peak_memory_bytes")
"""Costs that `transtailor time` measures, under the conditions that the view `timed_on` names."""
WAYS = "SELECT count(*) AS ways FROM (SELECT DISTINCT device_name, threads, precision, batch FROM timings)"
NUMBERS = "SELECT column_name FROM (DESCRIBE measured_points) WHERE column_type IN ('BIGINT', 'DOUBLE')"
HOURS = "SELECT trial_id, point, device_hours AS cost FROM compared_points JOIN unshared_costs USING (stage_key)"


Costs = Mapping[tuple[str, int], float]
"""By trial and number of the point."""


@dataclass(frozen=True)
class FrontPoint:
    """One arm, with means over its seeds.

    Attributes:
        share: share of the bootstrap resamples of the seeds in which the arm is on the front; None for one seed.
    """

    arm: Arm
    cost: float  # in the unit of the column; hours for `DEVICE_HOURS`
    interval: Mean  # the mean score with its 95% interval, over the seeds that have both a score and a cost
    is_on_front: bool  # whether no other arm of the problem is as cheap and as good, and better in one
    share: float | None

    @property
    def score(self) -> float:
        """The mean score over the seeds."""
        assert self.interval.mean is not None  # an arm without a seed has no point
        return self.interval.mean

    @property
    def seeds(self) -> int:
        """The number of seeds that the means are over."""
        return self.interval.n


def cost_names(run: Run) -> list[str]:
    """Return the names of all costs of this run."""
    columns = [row["column_name"] for row in run.rows(NUMBERS)]
    return [*(name for name in columns if name not in NO_COST), DEVICE_HOURS]


def fronts_of(run: Run, cost: str, score: str = "test_score") -> dict[Problem, list[FrontPoint]]:
    """Return all arms of each problem, sorted by cost, with their place on or behind the front.

    Raises:
        ResultsError: the run has no such cost or score, or no point has both.
    """
    found = fronts_among(select_arms(run, score=score).arms, costs_of(run, cost))
    if not found:
        hint = f"; to time the sub-models, type: {command('time', run.path)}" if cost in TIMED else ""
        raise ResultsError(f"no operating point has both a {score} and a {cost}{hint}")
    return found


def fronts_among(arms: Sequence[Arm], costs: Costs) -> dict[Problem, list[FrontPoint]]:
    """Return what `fronts_of` does from known costs; problems without any cost are left out.

    Args:
        arms: with a score in `test`.
        costs: from `costs_of`.
    """
    problems: dict[Problem, list[Arm]] = {}
    for arm in arms:
        problems.setdefault(arm.problem, []).append(arm)
    fronts = {problem: _front(its, costs) for problem, its in sorted(problems.items())}
    return {problem: front for problem, front in fronts.items() if front}


def costs_of(run: Run, cost: str) -> Costs:
    """Return the cost of every operating point that has one, by trial and number of the point.

    Raises:
        ResultsError: the run has no such cost.
    """
    names = cost_names(run)
    if cost not in names:
        hint = did_you_mean(cost, names)
        raise ResultsError(f"--cost {cost}: {hint}costs of this run: {', '.join(names)}")
    sql = f'SELECT trial_id, point, "{cost}" AS cost FROM compared_points WHERE isfinite("{cost}")'
    rows = run.rows(f"{HOURS} WHERE cost > 0" if cost == DEVICE_HOURS else sql)
    return {(row["trial_id"], row["point"]): float(row["cost"]) for row in rows}


def front_page(run: Run, cost: str, score: str = "test_score") -> Iterator[Part]:
    """Yield one table per problem, sorted by cost. Raises as `fronts_of`."""
    fronts = fronts_of(run, cost, score)
    for problem, front in fronts.items():
        scale = SCALES[front[0].arm.metric]
        yield Heading(f"{problem}: {score.split('_')[0]} {scale.mark} against {cost}")
        yield ""
        columns = ("arm", cost, scale.mark, "95%", "seeds", "on the front", "share of resamples")
        yield PageTable(columns=columns, rows=[_row(point) for point in front])
        yield ""
    yield from map(
        Note,
        [
            "On the front: no other arm is at least as cheap and at least as good, and better in one of the two (means"
            f" over seeds). The share is that of {FRONT_DRAWS} resamples of the seeds in which this holds. It is no p:"
            " one of two equal arms has 0.95 or more in 21% of all cases with 5 seeds, in 14% with 10.",
            *_marks(fronts, cost),
            *(circumstance_lines(run) if cost in TIMED else []),
            *support_lines(run, fronts),
        ],
    )


def circumstance_lines(run: Run) -> list[str]:
    """Say under which conditions the models of `measured_points` were timed; no line if none was."""
    (count,) = run.rows(WAYS)
    return [
        f"Latency and memory are those of one forward pass of {row['batch']} image{'' if row['batch'] == 1 else 's'} on"
        f" {row['device_name']}, {row['threads']} thread{'' if row['threads'] == 1 else 's'}, {row['precision']};"
        f" {row['models']} models were timed like this"
        + (f"; the table timings has {count['ways'] - 1} more such conditions." if count["ways"] > 1 else ".")
        for row in run.rows("FROM timed_on")
    ]


def _front(arms: Sequence[Arm], known: Costs) -> list[FrontPoint]:
    seeds = sorted({seed for arm in arms for seed in arm.test_by_seed})
    costs, scores = np.full((len(arms), len(seeds)), np.nan), np.full((len(arms), len(seeds)), np.nan)
    for place, arm in enumerate(arms):
        by_seed = _costs_by_seed(arm, known)
        for column, seed in enumerate(seeds):
            if seed in by_seed and seed in arm.test_by_seed:
                costs[place, column], scores[place, column] = by_seed[seed], arm.test_by_seed[seed]
    there = [place for place in range(len(arms)) if np.isfinite(costs[place]).any()]
    if not there:
        return []
    costs, scores = costs[there], scores[there]
    mean_cost, mean_score = np.nanmean(costs, axis=1), np.nanmean(scores, axis=1)
    front = on_front(mean_cost, mean_score)
    shares: list[float | None] = [None] * len(there)
    if len(seeds) > 1:
        shares = front_shares(costs, scores, _resamples(len(seeds))).tolist()
    found = [
        FrontPoint(
            arm=arms[place],
            cost=float(mean_cost[row]),
            interval=mean_interval(scores[row][np.isfinite(scores[row])].tolist()),
            is_on_front=bool(front[row]),
            share=shares[row],
        )
        for row, place in enumerate(there)
    ]
    return sorted(found, key=lambda point: (point.cost, -point.score, point.arm.name))


def _costs_by_seed(arm: Arm, known: Costs) -> dict[int, float]:
    """The mean over the points of each seed that have a cost."""
    found: dict[int, list[float]] = {}
    for point in arm.points:
        if (cost := known.get((point.trial_id, point.point))) is not None:
            found.setdefault(point.seed, []).append(cost)
    return {seed: sum(several) / len(several) for seed, several in found.items()}


@cache  # a page has many fronts over as many seeds
def _resamples(seeds: int) -> np.ndarray:
    return resamples(seeds, np.random.default_rng(0))  # the same rows give the same table


def _row(point: FrontPoint) -> tuple[str, ...]:
    scale = SCALES[point.arm.metric]
    cost = f"{point.cost:,.0f}" if point.cost >= 1000 else f"{point.cost:.4g}"
    share = "one seed" if point.share is None else number(point.share, 2)
    on = "yes" if point.is_on_front else ""
    return str(point.arm), cost, scale.value(point.score), scale.interval(point.interval), str(point.seeds), on, share


def _marks(fronts: Mapping[Problem, Sequence[FrontPoint]], cost: str) -> list[str]:
    notes = []
    arms = [point.arm for front in fronts.values() for point in front]
    if cost == DEVICE_HOURS:
        devices = sorted({environment.device for arm in arms for environment in arm.environments})
        notes.append(
            f"{DEVICE_HOURS}: hours x ranks of all stages of a point, without sharing, on {', '.join(devices)}."
        )
        if len(devices) > 1:
            notes.append("Hours on different devices cannot be compared.")
    if any(len(arm.environments) > 1 for arm in arms):
        notes.append("Some arms were computed on mixed hardware, ranks or torch versions.")
    if lost := sum(arm.failed > 0 for arm in arms):
        notes.append(
            f"{lost} arms lost seeds to failed trials or to scores that are not a number: their means are over the"
            " other seeds, so they look better than they are."
        )
    if fewer := [point for front in fronts.values() for point in front if point.seeds < len(point.arm.test_by_seed)]:
        notes.append(f"{len(fewer)} arms have seeds without a {cost}; these seeds are left out of the front.")
    return notes
