"""How many distinct trainings stand behind an n: seeds that share a stage share its luck."""

from collections.abc import Iterable
from dataclasses import dataclass

from results.arms.comparison import Problem
from results.store.reader import Run

TRAINED_STAGES = """
SELECT network, dataset, train_images, label, seed, kind, list(DISTINCT stage_key ORDER BY stage_key) AS keys
FROM stages JOIN (SELECT DISTINCT stage_key FROM epochs) USING (stage_key)
    JOIN (SELECT trial_id, network, dataset, train_images, label, seed FROM planned) USING (trial_id)
GROUP BY ALL ORDER BY ALL
"""
"""The stages that trained something, those with epochs, of each label's seeds."""


@dataclass(frozen=True)
class SharedTraining:
    """A kind of training of which seeds of one label share some: `distinct` draws stand behind `seeds` seeds."""

    problem: Problem
    label: str
    kind: str
    distinct: int
    seeds: int

    def __str__(self) -> str:
        draws = "one draw stands" if self.distinct == 1 else f"{self.distinct} distinct draws stand"
        return f"{self.kind.replace('_', ' ')}: {draws} behind {self.seeds} seeds"


def shared_trainings(run: Run) -> list[SharedTraining]:
    """Every kind of training stage that several seeds of a label share, by problem, label and kind.

    A source that was trained once is in all seeds' scores: their interval says nothing of how another source would do.
    """
    found: dict[tuple[Problem, str, str], dict[int, tuple[str, ...]]] = {}
    for row in run.rows(TRAINED_STAGES):
        key = Problem(row["network"], row["dataset"], row["train_images"] or 0), row["label"], row["kind"]
        found.setdefault(key, {})[row["seed"]] = tuple(row["keys"])
    return [
        SharedTraining(*key, distinct=distinct, seeds=len(by_seed))
        for key, by_seed in sorted(found.items())
        if (distinct := len(set(by_seed.values()))) < len(by_seed)
    ]


def shared_training_lines(draws: Iterable[SharedTraining], problems: Iterable[Problem]) -> list[str]:
    """One sentence for each kind of sharing within these problems, with the labels that it holds for."""
    within, labels = set(problems), dict[str, set[str]]()
    for draw in draws:
        if draw.problem in within:
            labels.setdefault(str(draw), set()).add(draw.label)
    return [
        f"{text} ({', '.join(sorted(of)) if len(of) <= 3 else f'{len(of)} labels'}): n is smaller than it looks, and no"
        " interval here covers another such draw."
        for text, of in sorted(labels.items())
    ]
