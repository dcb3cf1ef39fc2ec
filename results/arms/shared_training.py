"""How many distinct trainings an n counts: seeds that share a trained stage are not independent in it."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from results.arms.counts import count_lines, trial_counts
from results.arms.problem import Problem
from results.store.reader import Run

TRAINED_STAGES = """
SELECT network, dataset, train_images, arm, seed, kind, list(DISTINCT stage_key ORDER BY stage_key) AS keys
FROM stages JOIN (SELECT DISTINCT stage_key FROM epochs) USING (stage_key)
    JOIN (SELECT trial_id, network, dataset, train_images, arm, seed FROM planned) USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""
"""The training stages (those with epochs) of each arm's seeds."""


@dataclass(frozen=True)
class SharedTraining:
    """A kind of training of which seeds of one arm share some: `seeds` seeds have `distinct` trainings together."""

    problem: Problem
    arm: str
    kind: str
    distinct: int
    seeds: int

    def __str__(self) -> str:
        trainings = "one training" if self.distinct == 1 else f"{self.distinct} distinct trainings"
        return f"{self.kind.replace('_', ' ')}: {self.seeds} seeds share {trainings}"


def shared_trainings(run: Run) -> list[SharedTraining]:
    """Return each kind of training stage that several seeds of an arm share, by problem, arm and kind.

    For example, a source that was trained once is in all seeds' scores; their interval does not cover other sources.
    """
    stages: dict[tuple[Problem, str, str], dict[int, tuple[str, ...]]] = {}  # problem, arm, kind -> seed -> keys
    for row in run.rows(TRAINED_STAGES):
        problem = Problem.of(row)
        stages.setdefault((problem, row["arm"], row["kind"]), {})[row["seed"]] = tuple(row["keys"])
    shared = []
    for (problem, arm, kind), keys_by_seed in sorted(stages.items()):
        distinct = set().union(*keys_by_seed.values())
        if len(distinct) < sum(map(len, keys_by_seed.values())):
            shared.append(SharedTraining(problem, arm, kind, distinct=len(distinct), seeds=len(keys_by_seed)))
    return shared


def support_lines(run: Run, problems: Collection[Problem], *, all_settings: bool = False) -> list[str]:
    """Write the sentences on the trials of these problems, on the trainings that their seeds share, and on [tuning].

    Args:
        all_settings: what is shown is of all settings of [tuning], not of those that were chosen.
    """
    lines = [*count_lines(trial_counts(run), problems), *shared_training_lines(shared_trainings(run), problems)]
    if not all_settings and run.rows("SELECT trial_id FROM planned WHERE tuning_order > 0 LIMIT 1"):
        lines.append(
            "Each arm has the setting of [tuning] that is best by validation, chosen for each seed and budget."
        )
    return lines


def shared_training_lines(trainings: Iterable[SharedTraining], problems: Iterable[Problem]) -> list[str]:
    """Write one sentence for each kind of sharing within these problems, with its arms."""
    shown_problems = set(problems)
    arms_by_text: dict[str, set[str]] = {}
    for shared in trainings:
        if shared.problem in shown_problems:
            arms_by_text.setdefault(str(shared), set()).add(shared.arm)
    lines = []
    for text, arms in sorted(arms_by_text.items()):
        who = "; ".join(sorted(arms)) if len(arms) <= 3 else f"{len(arms)} arms"
        lines.append(f"{text} ({who}): n is smaller than it looks, and no interval here covers another such training.")
    return lines
