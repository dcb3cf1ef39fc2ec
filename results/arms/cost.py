"""What sharing saves: the seconds of all computed stages, against each baseline of `results.sharing`."""

from dataclasses import dataclass
from typing import Any

from results.sharing import SOURCE_KIND, Baselines, StageUse, baselines_of
from results.store.reader import Run

ARMS_OF_TRIALS = """
SELECT trial_id, arm, network, dataset, train_images, NULL::BIGINT AS last_order FROM planned
UNION ALL
SELECT trial_id, arm, network, dataset, train_images, max("order")
FROM operating_points LEFT JOIN stages USING (trial_id, stage_key) GROUP BY ALL
"""
"""The arms that a trial has stages of: its own with all (null), and that of a point with those up to the point. A path
of TransTailor begins with a point of head_only, which needs none of the later stages."""
COSTS = f"""
WITH arms AS (
    SELECT trial_id, arm, last_order FROM ({ARMS_OF_TRIALS})
    UNION SELECT trial_id, NULL, NULL FROM stages
), uses AS (
    SELECT arm, stage_key, count(DISTINCT trial_id) AS trials, any_value(kind) = '{SOURCE_KIND}' AS trains_source
    FROM stages JOIN arms USING (trial_id) WHERE last_order IS NULL OR "order" <= last_order GROUP BY arm, stage_key
), points AS (
    SELECT arm, stage_key FROM operating_points UNION SELECT NULL, stage_key FROM operating_points
), named AS (
    SELECT arm, stage_key FROM uses UNION SELECT arm, stage_key FROM points
    UNION SELECT arm, unnest(parents) FROM uses JOIN computed_stages USING (stage_key)
)
SELECT arm, trials, trains_source, count(*) AS stages, sum(compute_s ORDER BY compute_s) AS cost
FROM uses JOIN computed_stages USING (stage_key) GROUP BY arm, trials, trains_source
UNION ALL BY NAME
SELECT arm, count(*) AS points, sum(compute_s ORDER BY compute_s) AS from_start
FROM points LEFT JOIN unshared_costs USING (stage_key) GROUP BY arm
UNION ALL BY NAME
SELECT arm, count(*) AS unrecorded FROM named ANTI JOIN computed_stages USING (stage_key) GROUP BY arm
ORDER BY arm, trials, trains_source
"""
"""Of each arm, and with the arm null of all together: the stages that equally many of its trials have, the operating
points from the start, and the stages without a row."""


@dataclass(frozen=True, kw_only=True)
class SharingSavings:
    """Stage-seconds of a set of trials."""

    baselines: Baselines
    stages: int = 0  # distinct stages
    points: int = 0  # distinct operating points
    unrecorded: int = 0  # stages that are a parent or a point and have no row: they count as 0 seconds


def cost_of_run(run: Run) -> tuple[SharingSavings, dict[str, SharingSavings]]:
    """Compute the cost of the whole run, and of each arm on its own.

    Arms share stages, so their shared seconds add up to more than those of the run.
    """
    rows_of_arms: dict[str | None, list[dict[str, Any]]] = {None: []}
    for row in run.rows(COSTS):
        rows_of_arms.setdefault(row["arm"], []).append(row)
    savings = {arm: _savings(rows) for arm, rows in rows_of_arms.items()}
    return savings.pop(None), {arm: cost for arm, cost in savings.items() if arm is not None}


def _savings(rows: list[dict[str, Any]]) -> SharingSavings:
    uses = [
        StageUse(
            cost=row["cost"] or 0.0,
            trials=row["trials"] or 0,
            trains_source=bool(row["trains_source"]),
            from_start=row["from_start"] or 0.0,
        )
        for row in rows
    ]
    counts = {name: sum(row[name] or 0 for row in rows) for name in ("stages", "points", "unrecorded")}
    return SharingSavings(baselines=baselines_of(uses), **counts)
