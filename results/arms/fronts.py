"""Arms of a problem by score and cost: means over their seeds, and which of them are on the Pareto front."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from results.arms.comparison import Arm
from results.arms.problem import Problem
from results.arms.selection import select_arms
from results.circumstances import LATENCY
from results.errors import ResultsError
from results.statistics.fronts import front_shares, on_front, resamples
from results.statistics.means import Mean, mean_interval
from results.store.reader import Run
from transtailor.names import did_you_mean

DEVICE_HOURS = "device_hours"
"""Hours of all ranks for all stages that led to a point, without sharing; GPU-hours on GPUs."""
NO_COST = (
    "seed", "point", "validation_score", "deciding_score", "validation_loss", "validation_images", "test_score",
    "test_images", "train_images", "asked_removed_macs_fraction", "asked_latency_ms", "asked_latency_fraction",
    "removed_macs_fraction", "original_macs", "speed", "speed_lower_quartile", "speed_upper_quartile",
)  # fmt: skip
"""Numeric columns that are no cost of a model."""
TIMED = (LATENCY, "peak_memory_bytes")
"""Costs that `transtailor time` measures, in `measured_points` those of the circumstance in the view `timed_on`."""
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
    costs = [column for column in columns if column not in NO_COST]
    return [*costs, DEVICE_HOURS]


def fronts_of(run: Run, cost: str, score: str = "test_score") -> dict[Problem, list[FrontPoint]]:
    """Return all arms of each problem, sorted by cost, with their place on or behind the front.

    Raises:
        ResultsError: the run has no such cost or score, or no point has both.
    """
    fronts = fronts_among(select_arms(run, score=score).arms, costs_of(run, cost))
    if not fronts:
        hint = f"; to time the sub-models, type: {run.to_type('time')}" if cost in TIMED else ""
        raise ResultsError(f"no operating point has both a {score} and a {cost}{hint}")
    return fronts


def fronts_among(arms: Sequence[Arm], costs: Costs) -> dict[Problem, list[FrontPoint]]:
    """Return what `fronts_of` does from known costs; problems without any cost are left out.

    Args:
        arms: with a score in `test`.
        costs: from `costs_of`.
    """
    problems: dict[Problem, list[Arm]] = {}
    for arm in arms:
        problems.setdefault(arm.problem, []).append(arm)
    fronts = {}
    for problem, arms_of_problem in sorted(problems.items()):
        front = _front(arms_of_problem, costs)
        if front:
            fronts[problem] = front
    return fronts


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
    if cost == DEVICE_HOURS:
        sql = f"{HOURS} WHERE cost > 0"
    return {(row["trial_id"], row["point"]): float(row["cost"]) for row in run.rows(sql)}


def _front(arms: Sequence[Arm], costs_of_points: Costs) -> list[FrontPoint]:
    """Return the arms of one problem that have a seed with both a score and a cost, sorted by cost."""
    all_seeds: set[int] = set()
    for arm in arms:
        all_seeds.update(arm.test_by_seed)
    seeds = sorted(all_seeds)
    costs = np.full((len(arms), len(seeds)), np.nan)
    scores = np.full((len(arms), len(seeds)), np.nan)
    for row, arm in enumerate(arms):
        cost_by_seed = _costs_by_seed(arm, costs_of_points)
        for column, seed in enumerate(seeds):
            if seed in cost_by_seed and seed in arm.test_by_seed:
                costs[row, column] = cost_by_seed[seed]
                scores[row, column] = arm.test_by_seed[seed]
    known = np.isfinite(costs)
    if not known.any():
        return []
    # A seed that no arm has here is not drawn: a resample of such seeds would have no front.
    here = np.ix_(known.any(axis=1), known.any(axis=0))
    costs, scores = costs[here], scores[here]
    mean_cost = np.nanmean(costs, axis=1)
    is_on_front = on_front(mean_cost, np.nanmean(scores, axis=1))
    shares = front_shares(costs, scores, _resamples(costs.shape[1]))
    points = []
    for row, index in enumerate(np.flatnonzero(known.any(axis=1)).tolist()):
        scores_of_arm = scores[row][np.isfinite(scores[row])]
        points.append(
            FrontPoint(
                arm=arms[index],
                cost=float(mean_cost[row]),
                interval=mean_interval(scores_of_arm.tolist()),
                is_on_front=bool(is_on_front[row]),
                share=float(shares[row]) if len(scores_of_arm) > 1 else None,
            )
        )
    return sorted(points, key=lambda point: (point.cost, -point.score, point.arm.name))


def _costs_by_seed(arm: Arm, costs_of_points: Costs) -> dict[int, float]:
    """Return the mean over the points of each seed that have a cost."""
    by_seed: dict[int, list[float]] = {}
    for point in arm.points:
        cost = costs_of_points.get((point.trial_id, point.point))
        if cost is not None:
            by_seed.setdefault(point.seed, []).append(cost)
    return {seed: sum(costs) / len(costs) for seed, costs in by_seed.items()}


@cache  # a page has many fronts over as many seeds
def _resamples(seeds: int) -> np.ndarray:
    return resamples(seeds, np.random.default_rng(0))  # the same rows give the same table
