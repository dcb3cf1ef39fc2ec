"""The number of trials of each arm in each state; so that none is dropped silently."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from results.arms.problem import Problem
from results.store.completeness import TRIAL_STATES
from results.store.reader import Run

TRIALS_OF_ARMS = f"""
SELECT network, dataset, train_images, arm, state, count(*) AS trials FROM ({TRIAL_STATES})
GROUP BY ALL ORDER BY ALL
"""

FAILED_TRIALS = """
SELECT network, dataset, train_images, arm, seed FROM planned
WHERE trial_id IN (SELECT trial_id FROM trials WHERE status = 'failed')
"""

SEEDS_OF_ARMS = """
SELECT DISTINCT network, dataset, train_images, unnest([arm, head_arm]) AS arm, seed FROM planned
"""
"""Also of the arm of the head's fit with which a path begins."""


@dataclass(frozen=True)
class TrialCounts:
    """The number of trials of one arm in one problem."""

    planned: int
    finished: int
    failed: int
    stopped: int
    resting: int

    @property
    def missing(self) -> int:
        """The number of planned trials that are in no other state."""
        return self.planned - self.finished - self.failed - self.stopped - self.resting

    def __str__(self) -> str:
        searched = f"{self.stopped} stopped, {self.resting} resting, " if self.stopped or self.resting else ""
        return (
            f"{self.planned} planned, {self.finished} finished, {self.failed} failed, {searched}{self.missing} missing"
        )


MORE_SEEDS = "finish the planned ones, or list more in the spec and launch it with --extend"
"""Wherever it lists them: [axes], a variant or [confirm]."""

CountsByArm = dict[tuple[Problem, str], TrialCounts]
PlannedSeeds = dict[tuple[Problem, str], set[int]]


def trial_counts(run: Run) -> CountsByArm:
    """Count the trials of every planned problem and arm."""
    rows_by_arm: dict[tuple[Problem, str], list[TrialCounts]] = {}
    for row in run.rows(TRIALS_OF_ARMS):
        problem = Problem.of(row)
        trials = row["trials"]
        state = row["state"]
        counts = TrialCounts(
            planned=trials,
            finished=trials if state == "finished" else 0,
            failed=trials if state == "failed" else 0,
            stopped=trials if state == "stopped" else 0,
            resting=trials if state == "resting" else 0,
        )
        rows_by_arm.setdefault((problem, row["arm"]), []).append(counts)
    return {arm: total_counts(counts_of_seeds) for arm, counts_of_seeds in rows_by_arm.items()}


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
    for row in run.rows(FAILED_TRIALS):
        problem = Problem.of(row)
        failed.setdefault((problem, row["arm"]), Counter())[row["seed"]] += 1
    return failed


def total_counts(counts: Iterable[TrialCounts]) -> TrialCounts:
    """Add up several counts."""
    parts = list(counts)
    return TrialCounts(
        planned=sum(part.planned for part in parts),
        finished=sum(part.finished for part in parts),
        failed=sum(part.failed for part in parts),
        stopped=sum(part.stopped for part in parts),
        resting=sum(part.resting for part in parts),
    )


def count_lines(counts: CountsByArm, problems: Iterable[Problem]) -> list[str]:
    """Write one sentence on all trials of these problems, and one for each arm with unfinished trials."""
    within = set(problems)
    shown = {key: count for key, count in counts.items() if key[0] in within}
    if not shown:
        return ["Trials: none was planned here, so missing trials cannot be counted."]
    lines = [f"Trials: {total_counts(shown.values())}."]
    for (problem, arm), count in sorted(shown.items()):
        if count.finished < count.planned:
            # A search compares none of the trials that it may stop.
            has_mean = count.finished > 0 and not count.stopped + count.resting
            lines.append(f"{arm}, {problem}: {count}{'; means are over those that did not fail' if has_mean else ''}.")
    return lines
