"""Full fine-tuning that ended below the head that it began with: a baseline that makes all others look good.

Read from the validation split alone. Imports no scipy, which takes a second: `status` says it, too.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass

from results.arms.names import BASELINE, HEAD_ONLY
from results.arms.problem import Problem
from results.store.reader import Run
from results.text.number_format import SCALES
from transtailor.plural import counted

BELOW_HEADS = f"""
WITH scores AS (
    SELECT network, dataset, train_images, arm, method, seed, trial_id, metric, model_key, validation_score
    FROM operating_points
    WHERE isfinite(validation_score) AND trial_id NOT IN (SELECT trial_id FROM trials WHERE status = 'failed')
), heads AS (
    SELECT model_key, max(validation_score) AS head_score FROM scores WHERE method = '{HEAD_ONLY}' GROUP BY ALL
), begun AS (
    SELECT DISTINCT trial_id, tuning_order, unnest(stage_keys) AS model_key FROM planned WHERE method = '{BASELINE}'
), settings AS (
    SELECT network, dataset, train_images, arm, seed, metric, avg(validation_score) AS score,
        avg(validation_score - head_score) AS difference
    FROM scores JOIN (FROM begun JOIN heads USING (model_key)) AS head USING (trial_id)
    WHERE method = '{BASELINE}'
    GROUP BY network, dataset, train_images, arm, seed, metric, tuning_order
)
SELECT network, dataset, train_images, arm, metric, list(difference ORDER BY seed) AS differences FROM (
    SELECT * EXCLUDE (score, difference), arg_max(difference, score) AS difference FROM settings GROUP BY ALL
)
GROUP BY ALL ORDER BY ALL
"""
"""Of each arm of full fine-tuning and each of its seeds: the validation score, less that of the head's fit that the
trial began with; of several settings of [tuning], at the best by validation. Only where a trial measures that fit."""


@dataclass(frozen=True)
class BelowHead:
    """An arm of full fine-tuning that ended below its head's fit, on average and in most seeds."""

    problem: Problem
    arm: str
    metric: str
    difference: float  # of the validation scores, mean over the seeds; below 0
    below: int  # seeds in which it is below
    seeds: int

    def __str__(self) -> str:
        scale = SCALES[self.metric]
        return (
            f"{self.arm}, {self.problem}, ended below the fit of its own head: by"
            f" {scale.value(-self.difference)}{scale.difference_unit} on the validation split, in {self.below} of"
            f" {counted(self.seeds, 'seed')}. Unless that is chance, its fine-tuning went wrong, and what is compared"
            " with it looks better for that; try more optimisation.epochs, or a lower optimisation.learning_rate."
        )


def below_heads(run: Run) -> list[BelowHead]:
    """Return the arms of full fine-tuning that ended below the fit of their own head, by problem and name."""
    below_of_arms = []
    for row in run.rows(BELOW_HEADS):
        differences = row["differences"]
        mean = math.fsum(differences) / len(differences)
        below = sum(difference < 0.0 for difference in differences)
        if mean < 0.0 and 2 * below > len(differences):
            problem = Problem.of(row)
            below_of_arms.append(BelowHead(problem, row["arm"], row["metric"], mean, below, len(differences)))
    return below_of_arms


def below_head_lines(run: Run, problems: Collection[Problem], arms: Collection[str] | None = None) -> list[str]:
    """Write a sentence for each of them in these problems; of these arms, or of all."""
    lines = []
    for below in below_heads(run):
        if below.problem in problems and (arms is None or below.arm in arms):
            lines.append(str(below))
    return lines
