"""Why an arm may be far behind the whole network: what the tables say of its layers, norms and validation curves."""

from collections.abc import Iterator, Sequence
from typing import Any

from results.arms.comparison import Arm
from results.store.reader import Run
from results.store.views import is_of_points

FAR_BEHIND = 0.05  # points of accuracy, as a fraction (C)
FEW_FILTERS = 0.2  # share of a layer's filters, or less (C)
LEAST_MEASUREMENTS = 3  # of a validation curve that can rise
MOST_SENTENCES = 2

BEFORE = """
WITH ends AS (SELECT trial_id, point, stage_key FROM operating_points WHERE {points}),
before AS (
    SELECT ends.trial_id, stages.stage_key, stages.kind, stages."order"
    FROM ends JOIN stages AS own USING (trial_id, stage_key)
    JOIN stages ON stages.trial_id = ends.trial_id AND stages."order" < own."order"
)
"""
UNTRAINED = (
    BEFORE
    + """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, max("order") FILTER (kind LIKE 'prune%') AS pruned,
        max("order") FILTER (kind LIKE 'fine_tune%' OR kind IN ('calibrate', 'measure_norms')) AS repaired
    FROM before GROUP BY trial_id
) JOIN planned USING (trial_id)
WHERE pruned IS NOT NULL AND coalesce(repaired, -1) < pruned
    AND json_extract_string(config_json, '$.pruning.measure_norms') = 'false'
"""
)
"""Trials whose last pruning is followed by no stage that measures norms again; a network without norms has no such
setting."""
NARROW = """
SELECT layer, avg(width / original_width) AS share, min(width) AS width, max(original_width) AS filters,
    count(DISTINCT trial_id) AS trials
FROM layers WHERE {points} AND width < original_width
GROUP BY layer, "order" HAVING share <= {few} ORDER BY share, "order" LIMIT 1
"""
RISING = (
    BEFORE
    + """
SELECT count(DISTINCT trial_id) AS trials FROM (
    SELECT trial_id, arg_max(validation_score, epoch) AS last, max(validation_score) AS best,
        min(validation_score) AS least
    FROM epochs JOIN (
        SELECT trial_id, arg_max(stage_key, "order") AS stage_key FROM before WHERE kind LIKE 'fine_tune%'
        GROUP BY trial_id
    ) USING (trial_id, stage_key)
    WHERE isfinite(validation_score) GROUP BY trial_id HAVING count(*) >= {measurements}
) WHERE last = best AND best > least
"""
)
"""Trials whose last fine-tuning has its best validation score at its end."""


def far_behind_lines(run: Run, pairs: Sequence[tuple[Arm, Arm]]) -> Iterator[str]:
    """Yield at most two sentences on the arms that are far behind their controls, where these are the whole network.

    Args:
        pairs: arms of one problem, each with its control.
    """
    behind = [
        (arm.test.mean - control.test.mean, str(arm), arm)
        for arm, control in pairs
        if arm.test.mean is not None and control.test.mean is not None and control.removed == 0.0 < arm.removed
    ]
    sentences: dict[str, list[str]] = {}  # of each kind of reason: of the arm that is furthest behind, then the others
    for difference, name, arm in sorted(behind, key=lambda one: one[:2]):
        for kind, reason in _reasons(run, arm) if difference <= -FAR_BEHIND else ():
            if kind in sentences:
                sentences[kind].append(name)
            else:
                sentences[kind] = [f"{name} is far behind the whole network, and {reason} (docs/accuracy.md)"]
    for first, *others in list(sentences.values())[:MOST_SENTENCES]:
        yield f"{first}; likewise {', '.join(others)}." if others else f"{first}."


def _reasons(run: Run, arm: Arm) -> Iterator[tuple[str, str]]:
    """Yield kind and words of what may explain it and holds in most trials of the arm, what is mended easily first."""
    trials = len({point.trial_id for point in arm.points})
    points = is_of_points((point.trial_id, point.point) for point in arm.points)

    def trials_of(sql: str, **facts: Any) -> bool:
        (row,) = run.rows(sql.format(points=points, **facts))
        return 2 * int(row["trials"]) > trials

    if trials_of(UNTRAINED):
        words = "nothing trained it after its last pruning: its norms have the statistics of the whole network; type "
        yield "untrained", words + "--set trial.pruning.measure_norms=true"
    for row in run.rows(NARROW.format(points=points, few=FEW_FILTERS)):
        if 2 * row["trials"] > trials:
            words = (
                f"its layer {row['layer']} was left with as few as {row['width']} of {row['filters']} filters; ask for "
                "less"
            )
            is_cut = arm.method != "smaller_dense"  # which takes no filter away: all layers are as narrow
            yield "narrow", words + (", or raise pruning.minimum_filters_fraction" if is_cut else "")
    if trials_of(RISING, measurements=LEAST_MEASUREMENTS):
        yield "rising", "its validation curve still rises at the end; raise optimisation.epochs"
