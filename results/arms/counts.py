"""The number of trials of each arm: planned, finished, failed, missing; so that none is dropped silently."""

from collections.abc import Iterable
from dataclasses import dataclass

from results.arms.comparison import Problem
from results.store.reader import Run

TRIALS_OF_ARMS = """
SELECT network, dataset, train_images, label, seed, coalesce(status, 'missing') AS status, count(*) AS trials
FROM planned LEFT JOIN trials USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True)
class TrialCounts:
    """The number of trials of one label in one problem, and its planned seeds."""

    planned: int
    finished: int
    failed: int
    seeds: frozenset[int]

    @property
    def missing(self) -> int:
        """The number of planned trials that have neither finished nor failed."""
        return self.planned - self.finished - self.failed

    def __str__(self) -> str:
        return f"{self.planned} planned, {self.finished} finished, {self.failed} failed, {self.missing} missing"


CountsByArm = dict[tuple[Problem, str], TrialCounts]


def trial_counts(run: Run) -> CountsByArm:
    """Count the trials of every planned problem and label."""
    found: CountsByArm = {}
    for row in run.rows(TRIALS_OF_ARMS):
        key = Problem(row["network"], row["dataset"], row["train_images"] or 0), row["label"]
        one = TrialCounts(
            planned=row["trials"],
            finished=row["trials"] * (row["status"] == "finished"),
            failed=row["trials"] * (row["status"] == "failed"),
            seeds=frozenset({row["seed"]}),
        )
        found[key] = total_counts([found[key], one]) if key in found else one
    return found


def failed_trials(run: Run) -> dict[tuple[Problem, str], int]:
    """Count the failed trials of every planned problem and label."""
    return {key: count.failed for key, count in trial_counts(run).items()}


def total_counts(counts: Iterable[TrialCounts]) -> TrialCounts:
    """Add up several counts."""
    several = list(counts)
    return TrialCounts(
        planned=sum(one.planned for one in several),
        finished=sum(one.finished for one in several),
        failed=sum(one.failed for one in several),
        seeds=frozenset[int]().union(*(one.seeds for one in several)),
    )


def count_lines(counts: CountsByArm, problems: Iterable[Problem]) -> list[str]:
    """Write one sentence on all trials of these problems, and one for each label with unfinished trials."""
    within = set(problems)
    shown = {key: count for key, count in counts.items() if key[0] in within}
    if not shown:
        return ["Trials: none was planned here, so missing trials cannot be counted."]
    lines = [f"Trials: {total_counts(shown.values())}."]
    for (problem, label), count in sorted(shown.items()):
        if count.finished < count.planned:
            lines.append(f"{label}, {problem}: {count}; means are over those that did not fail.")
    return lines
