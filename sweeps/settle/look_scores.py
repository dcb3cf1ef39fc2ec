"""The scores on the test split that the looks of [settle] read.

Nothing else that decides in a sweep reads the test split. Looks do, since the claim that they make is about it; they
choose how many seeds run, never a model or a setting.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from results.store.reader import Run
from results.text.number_format import SCALES
from sweeps.settle.family import BUDGET_DIGITS

SCORES = """
SELECT trial_id, asked_removed_macs_fraction AS asked, arg_max(test_score, point) AS score, any_value(metric) AS metric,
    min(test_images) AS images
FROM measured_points JOIN trials USING (trial_id) WHERE status = 'finished' GROUP BY ALL
"""
DIGITS = 12
"""Of a score: the last bits of R squared depend on the order in which its rows are added, which no decision may."""

ScoreAt = tuple[str, float | None]
"""A trial, and the share of the MACs that was asked to be removed; None: a rule decided."""


@dataclass(frozen=True, kw_only=True)
class LookScores:
    """The scores of finished trials on the test split, at the last point of each budget.

    Attributes:
        by_point: those that are numbers.
        image: the smallest step of a score that is a mean over images, one of the smallest test split; 0 of others.
    """

    by_point: Mapping[ScoreAt, float]
    metric: str
    image: float


def read_look_scores(tables: Run) -> LookScores:
    """Return the test scores of the finished trials of a run."""
    by_point: dict[ScoreAt, float] = {}
    metric = "accuracy"
    image = 0.0
    for row in tables.rows(SCORES):
        score = row["score"]
        if score is None or not math.isfinite(score):
            continue
        asked = row["asked"]
        by_rule = asked is None or math.isnan(asked)
        by_point[row["trial_id"], None if by_rule else round(asked, BUDGET_DIGITS)] = round(score, DIGITS)
        metric = row["metric"]
        if SCALES[metric].is_right:
            image = max(image, 1 / row["images"])
    return LookScores(by_point=by_point, metric=metric, image=image)
