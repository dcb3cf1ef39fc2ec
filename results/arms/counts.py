"""The number of trials of each arm in each state; so that none is dropped silently."""

from collections import Counter

from results.arms.problem import Problem
from results.store.completeness import TRIAL_STATES, failed_trials
from results.store.reader import Run
from transtailor.plural import first_few

STATES = ("finished", "failed", "stopped", "resting", "missing")
ALWAYS_SAID = ("finished", "failed", "missing")
TRIALS_BY_STATE = f"SELECT state, count(*) AS trials FROM ({TRIAL_STATES}) GROUP BY ALL ORDER BY ALL"
WITHOUT_FINISHED = f"""
SELECT network, dataset, train_images, arm FROM ({TRIAL_STATES})
GROUP BY ALL HAVING count(*) FILTER (state = 'finished') = 0 ORDER BY ALL
"""
MOST_NAMED = 6
SEEDS_OF_ARMS = """
SELECT DISTINCT network, dataset, train_images, unnest([arm, head_arm]) AS arm, seed FROM planned
"""
"""Also of the arm of the head's fit with which a path begins."""


PlannedSeeds = dict[tuple[Problem, str], set[int]]


def planned_seeds(run: Run) -> PlannedSeeds:
    """Return the planned seeds of every problem and arm."""
    seeds: PlannedSeeds = {}
    for row in run.rows(SEEDS_OF_ARMS):
        problem = Problem.of(row)
        seeds.setdefault((problem, row["arm"]), set()).add(row["seed"])
    return seeds


def failed_by_arm(run: Run) -> dict[tuple[Problem, str], Counter[int]]:
    """Count the failed trials of each seed of every problem and arm that has some."""
    failed: dict[tuple[Problem, str], Counter[int]] = {}
    for row in failed_trials(run):
        if row["arm"] is not None:  # it was planned
            failed.setdefault((Problem.of(row), row["arm"]), Counter())[row["seed"]] += 1
    return failed


def trials_line(run: Run) -> str:
    """Count the planned trials by state, and name the arms without any finished one: they have no row."""
    states = {row["state"]: row["trials"] for row in run.rows(TRIALS_BY_STATE)}
    if not states:
        return "Trials: none was planned here, so missing trials cannot be counted."
    counts = [f"{states.get(state, 0)} {state}" for state in STATES if state in ALWAYS_SAID or state in states]
    without = [f"{row['arm']}, {Problem.of(row)}" for row in run.rows(WITHOUT_FINISHED)]
    lost = f" None finished of {first_few(without, MOST_NAMED, '; ')}." if without else ""
    return f"Trials: {sum(states.values())} planned, {', '.join(counts)}.{lost}"
