"""Full fine-tuning that ended below the head that it began with: a baseline that makes all others look good.

Read from the validation split alone. Imports no scipy, which takes a second: `status` says it, too.
"""

import math

from results.arms.names import BASELINE, HEAD_ONLY
from results.arms.problem import Problem
from results.store.reader import Run

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


MEANING = (
    "it or its control is a full fine-tuning that ended below the fit of its own head, on the validation split, in most"
    " seeds. Unless that is chance, its fine-tuning went wrong, and what is compared with it looks better for that; try"
    " more optimisation.epochs, or a lower optimisation.learning_rate"
)


def below_heads(run: Run) -> list[tuple[Problem, str]]:
    """Return the arms of full fine-tuning that ended below the fit of their own head, on average and in most seeds."""
    arms = []
    for row in run.rows(BELOW_HEADS):
        differences = row["differences"]
        if math.fsum(differences) < 0.0 and 2 * sum(each < 0.0 for each in differences) > len(differences):
            arms.append((Problem.of(row), row["arm"]))
    return arms
